"""`POST /v1/judgments`: can the model answer this, how likely is it right, and what to do then."""

from __future__ import annotations

import time
from collections.abc import Sequence

from fastapi import APIRouter, Security

from know_thyself.asking import Opinion, Refusal
from know_thyself.errors import ConfigError
from know_thyself.wire import Bar, Error, ErrorItem, JudgmentItem, JudgmentRequest, JudgmentResponse, Usage
from serve.auth import BEARER, Caller, Key, Scope, guarded
from serve.deciding import Line
from serve.errors import ServiceError, documented
from serve.judging import to_question
from serve.service import Outcome, Service
from serve.serving import Served

PATH = "/v1/judgments"
router = APIRouter(route_class=guarded(Scope.JUDGE, judges=True), dependencies=[Security(BEARER)], tags=["judgments"])


@router.post(PATH, responses=documented(400, 401, 403, 404, 413, 422, 429, 500, 503))
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
    said = await service.consult(key, questions)
    if not request.is_batch and isinstance(said[0], Refusal):
        raise _refused(said[0])
    outcomes = [_outcome(service, one, line) for one in said]
    return _response(service, service.record(key, outcomes), outcomes, line)


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


def _outcome(service: Service, said: Opinion | Refusal, line: Line) -> Outcome:
    if isinstance(said, Refusal):
        return said
    return said, service.decider.decide(said, line)


def _response(service: Service, name: str, outcomes: Sequence[Outcome], line: Line) -> JudgmentResponse:
    read = sum(one[0].num_tokens for one in outcomes if not isinstance(one, Refusal))
    return JudgmentResponse(
        id=name,
        created=int(time.time()),
        model=service.model,
        judge_digest=service.judge_digest,
        event=service.judge.card.event,
        calibration=service.calibration,
        data=[_item(index, one, line) for index, one in enumerate(outcomes)],
        usage=Usage(input_tokens=read, total_tokens=read),
    )


def _item(index: int, outcome: Outcome, line: Line) -> JudgmentItem | ErrorItem:
    if isinstance(outcome, Refusal):
        told = Error(message=outcome.reason, type="invalid_request_error", param=f"input.{index}", code=outcome.fault)
        return ErrorItem(index=index, error=told)
    opinion, decision = outcome
    return JudgmentItem(
        index=index,
        verdict=opinion.verdict,
        p_correct=opinion.p_correct,
        decision=decision,
        threshold=line.shown,
        threshold_source=line.source,
        context_cut=opinion.context_cut,
    )
