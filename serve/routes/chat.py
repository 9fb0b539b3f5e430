"""`POST /v1/chat/completions`: the gate, and the judge as a model that replies with verdicts."""

from __future__ import annotations

import json
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response, Security

from know_thyself.asking import Asked, Refusal
from know_thyself.wire import AUTO, Bar, ChatCompletion, ChatMessage, ChatRequest
from serve.answering import spoken
from serve.auth import BEARER, Caller, Key, Scope, guarded
from serve.completions import EVENTS, Completion
from serve.deciding import Line
from serve.errors import LONGEST_PARAM, ServiceError, documented
from serve.gate import Gate, checked, stated
from serve.headers import recorded
from serve.judging import to_question
from serve.personas import read_form
from serve.service import Service
from serve.serving import Served

PATH = "/v1/chat/completions"
EXAMPLE = 'data: {"id": "chatcmpl-5f0c", "object": "chat.completion.chunk", "choices": []}\n\ndata: [DONE]\n\n'
REPLIES: dict[int | str, dict[str, Any]] = {
    200: {"model": ChatCompletion, "content": {EVENTS: {"schema": {"type": "string"}, "example": EXAMPLE}}}
}

router = APIRouter(route_class=guarded(Scope.JUDGE), dependencies=[Security(BEARER)], tags=["chat"])


async def _gate(request: Request) -> Gate | None:
    gate: Gate | None = request.app.state.gate
    return gate


@router.post(
    PATH,
    response_class=Response,
    responses={**REPLIES, **documented(400, 401, 403, 404, 413, 422, 429, 500, 502, 503, 504)},
)
async def create_chat_completion(
    request: ChatRequest, service: Served, gate: Annotated[Gate | None, Depends(_gate)], key: Caller
) -> Response:
    """Judge whether the model can answer, and then answer, escalate or abstain, as the policy says.

    The model `kt-auto` is this gate. A judge by its name is a model for routers: it replies with the verdict that they ask for.
    What is decided is told in `x-kt-` headers.
    """
    line = service.decider.line(PATH, key, Bar())
    if request.model == AUTO and gate is not None:
        _check_parameters(request)
        return await gate.respond(service, key, request, _question([*request.messages]), line)
    if request.model == AUTO:
        told = f"{AUTO} is not set up: start with --answer, or add [gate] to the policy"
        raise ServiceError(404, "model_not_found", told, "model")
    service.check_model(request.model)
    _check_known(request)
    return await _verdict(service, key, request, line)


async def _verdict(service: Service, key: Key | None, request: ChatRequest, line: Line) -> Response:
    """The verdict that `request` asks the judge for, in its own form."""
    form = read_form(request, service.judge.card)
    opinion = checked(service, key, (await service.consult(key, [_question(form.chat)]))[0])
    passes = line.is_reached(opinion)
    decision = service.decider.decide(opinion, line)
    said = spoken(stated(json.dumps(form.speak(opinion, passes)), opinion.num_tokens))
    return await Completion.of(request).respond(said, recorded(service, key, opinion, decision, line))


def _question(chat: list[ChatMessage]) -> Asked:
    """The question that `chat` ends with. Raises `ServiceError` 400 where it is none that can be judged."""
    asked = to_question(chat, None)
    if isinstance(asked, Refusal):
        raise ServiceError(400, asked.fault, asked.reason, "messages")
    return asked


def _check_parameters(request: ChatRequest) -> None:
    """Raise `ServiceError` 400 for what no answerer of the gate could do."""
    _check_known(request)
    if request.response_format is not None and request.response_format.type != "text":
        raise _unsupported("response_format")


def _check_known(request: ChatRequest) -> None:
    """Raise `ServiceError` 400 for the first parameter that is not supported."""
    extra = next((name for name, value in (request.model_extra or {}).items() if value is not None), None)
    if extra is not None:
        raise _unsupported(extra[:LONGEST_PARAM])
    if request.n not in (None, 1):
        raise _unsupported("n")


def _unsupported(name: str) -> ServiceError:
    return ServiceError(400, "unsupported_parameter", f"{name} is not supported here: leave it out", name)
