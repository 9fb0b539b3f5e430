"""Is the service alive, is it ready to judge, and what has it counted."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response, Security
from prometheus_client import CONTENT_TYPE_LATEST

from know_thyself.wire import Health
from serve.auth import BEARER, Scope, guarded
from serve.errors import ServiceError, documented
from serve.serving import AllServed

EXAMPLE = 'kt_judgments_total{decision="answer",verdict="can"} 3.0\n'
TEXT: dict[int | str, dict[str, Any]] = {200: {"content": {"text/plain": {"schema": {"type": "string"}, "example": EXAMPLE}}}}

health = APIRouter(prefix="/health", tags=["health"])
metrics = APIRouter(route_class=guarded(Scope.ADMIN), dependencies=[Security(BEARER)], tags=["health"])


@health.get("/live", responses=documented(500))
async def live() -> Health:
    """Say that the process answers; it needs no key."""
    return Health(status="alive")


@health.get("/ready", responses=documented(500, 503))
async def ready(serving: AllServed) -> Health:
    """Say whether the judge can be asked; it needs no key."""
    if serving.prod.judge.fault is not None:
        raise ServiceError(503, "not_ready", "the judge is not ready")
    return Health(status="ready")


@metrics.get("/metrics", response_class=Response, responses={**TEXT, **documented(401, 403, 429, 500)})
async def counted(serving: AllServed) -> Response:
    """Return all counters in the text format of Prometheus."""
    prod = serving.prod
    return Response(prod.meter.text(prod.judge.waiting), media_type=CONTENT_TYPE_LATEST)
