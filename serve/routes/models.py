"""`GET /v1/models`: which judges can be asked, and what they can promise."""

from __future__ import annotations

from fastapi import APIRouter, Security

from know_thyself.wire import ModelInfo, ModelList
from serve.auth import BEARER, Scope, guarded
from serve.deciding import promises
from serve.errors import documented
from serve.service import AllServed, Service

router = APIRouter(route_class=guarded(Scope.JUDGE), dependencies=[Security(BEARER)], tags=["models"])


@router.get("/v1/models", responses=documented(401, 403, 500))
async def list_models(serving: AllServed) -> ModelList:
    """List the judges that are served: the one that answers, and the canary where there is one."""
    return ModelList(data=[_info(service) for service in (serving.prod, serving.canary) if service])


def _info(service: Service) -> ModelInfo:
    card = service.judge.card
    return ModelInfo(
        id=service.model,
        created=service.created,
        judge_digest=service.judge_digest,
        event=card.event,
        calibration=service.calibration,
        reachable=[promise.accuracy for promise in promises(card)],
    )
