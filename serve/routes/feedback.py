"""`POST /v1/feedback`: whether the answer was right."""

from __future__ import annotations

from fastapi import APIRouter, Security

from know_thyself.wire import FeedbackRequest, FeedbackResponse
from serve.auth import BEARER, Caller, Key, Scope, guarded
from serve.errors import RETRY_AFTER, ServiceError, documented
from serve.ids import Judged
from serve.journal import Journal, JournalError
from serve.service import Backed, Backing, tenant_of

PATH = "/v1/feedback"
router = APIRouter(route_class=guarded(Scope.FEEDBACK), dependencies=[Security(BEARER)], tags=["feedback"])


@router.post(PATH, responses=documented(400, 401, 403, 404, 413, 422, 429, 500, 503))
async def give_feedback(request: FeedbackRequest, backing: Backed, key: Caller) -> FeedbackResponse:
    """Keep whether the answer to a judged question was right; the same told twice counts once, and the last word holds.

    404 for an id that was not given to this key, that is too old, or has no judgment at that index, and from a service that
    keeps no journal.
    """
    if backing.journal is None:
        raise ServiceError(404, "feedback_off", "this service keeps no feedback: start it with --journal")
    judged, score = _judged(backing, backing.journal, key, request)
    row = (request.id, request.index, judged.at, judged.judge, score, judged.is_calibrated, request.correct)
    try:
        await backing.journal.keep_feedback(row)
    except JournalError as error:
        told = "the feedback could not be kept: send it again later"
        raise ServiceError(503, "journal_failed", told, retry_after=RETRY_AFTER) from error
    backing.meter.feedback(request.correct)
    return FeedbackResponse(id=request.id, index=request.index, correct=request.correct)


def _judged(backing: Backing, journal: Journal, key: Key | None, request: FeedbackRequest) -> tuple[Judged, float]:
    """What was judged, and the score that it got. Raises `ServiceError` 404, the same for whatever is amiss."""
    judged = backing.signer.read(tenant_of(key), request.id)
    if judged is not None and judged.at >= journal.oldest and request.index < len(judged.scores):
        score = judged.scores[request.index]
        if score is not None:
            return judged, score
    raise ServiceError(404, "judgment_not_found", "there is no such judgment: send its id, and its index in a list", "id")
