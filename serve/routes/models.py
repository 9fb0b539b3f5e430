"""`GET /v1/models`: which judges can be asked, and what they can promise; the gate as well, where there is one."""

from __future__ import annotations

from fastapi import APIRouter, Request, Security

from know_thyself.wire import AUTO, ModelInfo, ModelList
from serve.auth import BEARER, Scope, guarded
from serve.deciding import promises
from serve.errors import documented
from serve.service import Service
from serve.serving import AllServed

router = APIRouter(route_class=guarded(Scope.JUDGE), dependencies=[Security(BEARER)], tags=["models"])


@router.get("/v1/models", responses=documented(401, 403, 429, 500))
async def list_models(serving: AllServed, request: Request) -> ModelList:
    """List the judges that are served, the one that answers first, and the gate, which has the promises of that one."""
    prod = _info(serving.prod)
    canaries = [] if serving.canary is None else [_info(serving.canary)]
    gates = [] if request.app.state.gate is None else [prod.model_copy(update={"id": AUTO})]
    return ModelList(data=[prod, *canaries, *gates])


def _info(service: Service) -> ModelInfo:
    card = service.judge.card
    return ModelInfo(
        id=service.model,
        created=service.created,
        judge_digest=service.judge_digest,
        event=card.event,
        calibration=service.calibration,
        reachable=[promise.accuracy for promise in promises(card)],
        reliability=card.reliability,
    )
