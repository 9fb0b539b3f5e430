"""`POST /v1/systemone` and `POST /v1/decisions`: the formats in which gateways and clients ask decision models.

They carry any question, and a judge knows one answer. Questions that the policy registers get it, calibrated, while the choice
follows the threshold, which stands in the headers; all others are refused. Elsewhere either path takes either format, so that
here the body tells which it is.
"""

from __future__ import annotations

import time
from typing import Annotated

from fastapi import APIRouter, Body, Response, Security

from know_thyself.asking import Refusal
from know_thyself.wire import (
    Bar,
    ChoiceQuestion,
    DecisionQuestion,
    DecisionResponse,
    DecisionUsage,
    EitherRequest,
    Item,
    ScoreQuestion,
    SystemOneRequest,
    SystemOneResponse,
    SystemOneUsage,
)
from serve.auth import BEARER, Caller, Key, Scope, guarded
from serve.deciding import Line
from serve.errors import LONGEST_PARAM, ServiceError, documented
from serve.formats import Forecast, decision_answers, systemone_answers
from serve.headers import recorded
from serve.judging import to_question
from serve.policy import LabelMap
from serve.service import Service
from serve.serving import Served

PATHS = SYSTEMONE, DECISIONS = "/v1/systemone", "/v1/decisions"
ALONE = "Classify this message:\n"
"""How LiteLLM's auto router opens what is asked."""
WRAPPED = (
    ("System prompt:\n", "\n\nRequest:\n"),
    ("Caller system prompt, quoted as task context:\n", f"\n\n{ALONE}"),
)
"""How it puts a system text before, in earlier versions and in later ones."""
UNREGISTERED = "no judge was trained for this question: ask can_answer, or register its phrase or labels in the policy"
UNCALIBRATED = "this judge is not calibrated and has no probability to give: calibrate it on questions of its run"

Sent = Annotated[EitherRequest, Body()]
Answered = SystemOneResponse | DecisionResponse
router = APIRouter(route_class=guarded(Scope.JUDGE, judges=True), dependencies=[Security(BEARER)], tags=["decisions"])


@router.post(SYSTEMONE, responses=documented(400, 401, 403, 404, 413, 422, 429, 500, 503))
async def answer_systemone(request: Sent, response: Response, service: Served, key: Caller) -> Answered:
    """Answer registered questions about a state; one that is not registered refuses the request.

    A body in the format of /v1/decisions is answered in that.
    """
    return await _answer(SYSTEMONE, request, response, service, key)


@router.post(DECISIONS, responses=documented(400, 401, 403, 404, 413, 422, 429, 500, 503))
async def answer_decisions(request: Sent, response: Response, service: Served, key: Caller) -> Answered:
    """Answer registered questions about an input, and each of the others with a refusal.

    A body in the format of /v1/systemone is answered in that.
    """
    return await _answer(DECISIONS, request, response, service, key)


async def _answer(route: str, request: EitherRequest, response: Response, service: Service, key: Key | None) -> Answered:
    """The answer to a request in its format, with the judgment that it rests on in the headers."""
    service.check_model(request.model)
    line = service.decider.line(route, key, Bar())
    model = f"{service.model}@{service.judge_digest}"
    if isinstance(request, SystemOneRequest):
        maps = _all_registered(service, request)
        judged = await _judge(service, key, line, ("state", request.state), response)
        answers = systemone_answers(request, maps, judged)
        return SystemOneResponse(model=model, answers=answers, usage=SystemOneUsage(input_tokens=judged.num_tokens))
    found = [_map_of(service, question) for question in request.questions]
    said = await _judge(service, key, line, ("input", request.item), response) if any(found) else None
    read = said.num_tokens if said else 0
    usage = DecisionUsage(input_tokens=read, total_tokens=read)
    return DecisionResponse(model=model, answers=decision_answers(request, found, said), usage=usage)


def _all_registered(service: Service, request: SystemOneRequest) -> list[LabelMap]:
    """What each question of `request` comes to. Raises `ServiceError` 422 that names the first that is not registered."""
    maps = []
    for name, question in request.questions.items():
        mapped = service.decider.policy.questions.meaning(name, question.phrase, question.labels)
        if mapped is None:
            service.meter.refusal("unregistered_question")
            param = f"questions.{name}"[:LONGEST_PARAM]
            raise ServiceError(422, "unregistered_question", f"{param}: {UNREGISTERED}", param)
        maps.append(mapped)
    return maps


def _map_of(service: Service, question: DecisionQuestion) -> LabelMap | None:
    """What `question` comes to, None of one that is not registered."""
    labels = question.labels if isinstance(question, ChoiceQuestion) else None
    mapped = service.decider.policy.questions.meaning(question.name, question.phrase, labels)
    if mapped is None or isinstance(question, ScoreQuestion):
        service.meter.refusal("unregistered_question")
        return None
    return mapped


async def _judge(service: Service, key: Key | None, line: Line, sent: tuple[str, Item], response: Response) -> Forecast:
    """What the judge says of what was `sent` under its name, which the headers of `response` tell as well.

    Raises `ServiceError` for an input that cannot be judged, and of a judge that is not calibrated.
    """
    param, item = sent
    began = time.perf_counter()
    (said,) = await service.consult(key, [to_question(_asked_of(item), None)])
    if isinstance(said, Refusal):
        service.record(key, [said])
        raise ServiceError(400, said.fault, said.reason, param)
    if said.p_correct is None:
        raise ServiceError(422, "not_calibrated", UNCALIBRATED, "model")
    decision = service.decider.decide(said, line)
    response.headers.update(recorded(service, key, said, decision, line))
    response.headers["x-kt-in-domain"] = str(_is_bare(item)).lower()
    response.headers["server-timing"] = f"judge;dur={(time.perf_counter() - began) * 1000:.1f}"
    return Forecast(p_correct=said.p_correct, passes=line.is_reached(said), num_tokens=said.num_tokens)


def _asked_of(item: Item) -> Item:
    """`item`, of a text that LiteLLM puts together only what follows the system text.

    That begins at the first mark: after a later one, users could set a question of their choice before the judge.
    """
    if not isinstance(item, str):
        return item
    text = item.strip()
    for opening, mark in WRAPPED:
        if text.startswith(opening) and mark in text:
            return text.partition(mark)[2]
    return text.removeprefix(ALONE)


def _is_bare(item: Item) -> bool:
    """Whether `item` is of the kind that calibration has seen: one turn of one paragraph, nothing quoted before it."""
    texts = [item] if isinstance(item, str) else [turn.text for turn in item]
    return len(texts) == 1 and "\n\n" not in texts[0].strip()
