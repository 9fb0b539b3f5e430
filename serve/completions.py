"""Answers in the shape of OpenAI's chat completions: whole, or as a stream of events.

Nothing is sent before the first piece is there: whatever is wrong until then is told by a status. What goes wrong later is told
by an event with an error, after which the stream ends without its `[DONE]`.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass

from fastapi import Response
from fastapi.responses import JSONResponse, StreamingResponse

from know_thyself.asking import Answer
from know_thyself.types import Finish
from know_thyself.wire import (
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Choice,
    ChunkChoice,
    Delta,
    ErrorResponse,
)
from know_thyself.wire.chat import FinishReason
from serve.answering import Said
from serve.errors import ServiceError
from serve.headers import Headers

EVENTS = "text/event-stream"
DONE = "[DONE]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What all parts of one reply to `request` share."""

    request: ChatRequest
    id: str
    created: int

    @classmethod
    def of(cls, request: ChatRequest) -> Completion:
        """A new reply to `request`."""
        return cls(request=request, id=f"chatcmpl-{uuid.uuid4().hex}", created=int(time.time()))

    async def respond(self, said: Said, headers: Headers) -> Response:
        """What is `said`, in one or as events. Raises what that raises before its first piece."""
        if self.request.stream:
            return await streamed(self._events(said), headers)
        answer = [piece async for piece in said][-1]
        assert isinstance(answer, Answer)
        choice = Choice(message=AssistantMessage(content=answer.text), finish_reason=_reason(answer))
        whole = ChatCompletion(
            id=self.id, created=self.created, model=self.request.model, choices=[choice], usage=_usage(answer)
        )
        return JSONResponse(whole.model_dump(), headers=headers)

    async def _events(self, said: Said) -> AsyncIterator[str]:
        opening = Delta(role="assistant", content="")
        async for piece in said:
            if isinstance(piece, str):
                yield self._event(ChunkChoice(index=0, delta=opening.model_copy(update={"content": piece}), finish_reason=None))
                opening = Delta()
            else:
                yield self._event(ChunkChoice(index=0, delta=Delta(), finish_reason=_reason(piece)))
                if self.request.stream_options and self.request.stream_options.include_usage:
                    yield self._event(usage=_usage(piece))
        yield event(DONE)

    def _event(self, *choices: ChunkChoice, **usage: ChatUsage) -> str:
        chunk = ChatChunk(
            id=self.id,
            object="chat.completion.chunk",
            created=self.created,
            model=self.request.model,
            choices=list(choices),
        )
        return event(chunk.model_copy(update=usage).model_dump_json(exclude_unset=True))


def event(data: str) -> str:
    """The event that holds `data`, which may have several lines."""
    return "".join(f"data: {line}\n" for line in data.split("\n")) + "\n"


async def streamed(events: AsyncIterator[str], headers: Headers) -> Response:
    """`events`, of which there is one at least, as a stream once that is there. Raises what getting it raises."""
    first = await anext(events)
    return StreamingResponse(_to_the_end(first, events), media_type=EVENTS, headers=headers)


async def _to_the_end(first: str, events: AsyncIterator[str]) -> AsyncIterator[str]:
    yield first
    try:
        async for one in events:
            yield one
    except ServiceError as error:
        yield event(ErrorResponse(error=error.error).model_dump_json())


def _reason(answer: Answer) -> FinishReason:
    return "length" if answer.finish is Finish.LENGTH else "stop"


def _usage(answer: Answer) -> ChatUsage:
    read, written = answer.num_prompt_tokens, answer.num_tokens
    return ChatUsage(prompt_tokens=read, completion_tokens=written, total_tokens=read + written)
