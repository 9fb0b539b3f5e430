"""`POST /v1/admin/judges/prod`: let another judge of the registry serve, if it is sound."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request, Security

from know_thyself.errors import JudgeError
from know_thyself.wire import AppointedJudge, Appointment
from serve.auth import BEARER, Scope, guarded
from serve.errors import ServiceError, documented
from serve.registry import is_name
from serve.swapping import Succession

PATH = "/v1/admin/judges/prod"
router = APIRouter(route_class=guarded(Scope.ADMIN), dependencies=[Security(BEARER)], tags=["admin"])


async def _succession(request: Request) -> Succession:
    succession: Succession = request.app.state.succession
    return succession


@router.post(PATH, responses=documented(400, 401, 403, 404, 409, 413, 422, 429, 500))
async def appoint_judge(request: Appointment, succession: Annotated[Succession, Depends(_succession)]) -> AppointedJudge:
    """Verify a judge of the registry, and let it serve; requests that came before end on the judge before.

    A judge that is refused never serves: the answer says why, and the one before serves on.
    """
    if not is_name(request.judge):
        raise ServiceError(400, "invalid_name", "no judge can have this name: see the registry for those there are", "judge")
    if request.judge not in succession.names:
        raise ServiceError(404, "judge_not_found", "the registry has no judge of this name: put it there first", "judge")
    try:
        service = await succession.appoint(request.judge)
    except JudgeError as error:
        told = f"the judge is refused, and the one before serves on: {error}"
        raise ServiceError(409, "judge_refused", told, "judge") from error
    return AppointedJudge(judge=request.judge, model=service.model, judge_digest=service.judge_digest)
