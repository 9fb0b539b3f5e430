"""`POST /v1/judgments`: can the model answer this, how likely is it right, and what to do then."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence

from fastapi import APIRouter, Security

from know_thyself.asking import Opinion, Refusal
from know_thyself.errors import ConfigError
from know_thyself.wire import Bar, Error, ErrorItem, JudgmentItem, JudgmentRequest, JudgmentResponse, Usage
from serve.auth import BEARER, Caller, Key, Scope, guarded
from serve.deciding import Line
from serve.errors import ServiceError, documented
from serve.judging import consult, to_question
from serve.service import Served, Service

PATH = "/v1/judgments"
router = APIRouter(route_class=guarded(Scope.JUDGE), dependencies=[Security(BEARER)], tags=["judgments"])


@router.post(PATH, responses=documented(400, 401, 403, 404, 413, 422, 500, 503))
async def create_judgment(request: JudgmentRequest, service: Served, key: Caller) -> JudgmentResponse:
    """Judge whether the model can answer a question, a chat, or each of a list of them.

    What is wrong with one input of a list is told in its place; a single input that is wrong is refused.
    """
    service.check_model(request.model)
    line = _line(service, key, request)
    contexts = _contexts(request)
    questions = [to_question(item, context) for item, context in zip(request.items, contexts, strict=True)]
    if not request.is_batch and isinstance(questions[0], Refusal):
        raise _refused(questions[0])
    said = await consult(service.judge, questions)
    if not request.is_batch and isinstance(said[0], Refusal):
        raise _refused(said[0])
    return _response(service, said, line)


def _line(service: Service, key: Key | None, bar: Bar) -> Line:
    """The line of the request. Raises `ServiceError` 400 where it asks for what the judge cannot do."""
    try:
        return service.decider.line(PATH, key, bar)
    except ConfigError as error:
        param = "threshold" if bar.threshold is not None else "target_accuracy"
        raise ServiceError(400, "not_reachable", str(error), param) from error


def _contexts(request: JudgmentRequest) -> list[str | None]:
    """The context of each input. Raises `ServiceError` 400 unless there is one, or as many as inputs."""
    number = len(request.items)
    if not isinstance(request.context, list):
        return [request.context] * number
    if len(request.context) != number:
        told = f"{len(request.context)} contexts for {number} inputs: give one for all, or one or null for each"
        raise ServiceError(400, "context_count", told, "context")
    return request.context


def _refused(refusal: Refusal) -> ServiceError:
    return ServiceError(400, refusal.fault, refusal.reason, "input")


def _response(service: Service, said: Sequence[Opinion | Refusal], line: Line) -> JudgmentResponse:
    read = sum(one.num_tokens for one in said if isinstance(one, Opinion))
    return JudgmentResponse(
        id=f"jdg-{uuid.uuid4().hex}",
        created=int(time.time()),
        model=service.model,
        judge_digest=service.judge_digest,
        event=service.judge.card.event,
        calibration=service.calibration,
        data=[_item(service, index, one, line) for index, one in enumerate(said)],
        usage=Usage(input_tokens=read, total_tokens=read),
    )


def _item(service: Service, index: int, said: Opinion | Refusal, line: Line) -> JudgmentItem | ErrorItem:
    if isinstance(said, Refusal):
        service.meter.refusal(said.fault)
        told = Error(message=said.reason, type="invalid_request_error", param=f"input.{index}", code=said.fault)
        return ErrorItem(index=index, error=told)
    decision = service.decider.decide(said, line)
    service.meter.judgment(said, decision)
    return JudgmentItem(
        index=index,
        verdict=said.verdict,
        p_correct=said.p_correct,
        decision=decision,
        threshold=line.shown,
        threshold_source=line.source,
        context_cut=said.context_cut,
    )
