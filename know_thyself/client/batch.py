"""Files of requests in the lines of OpenAI's batches: each line in, one line out, in the same order.

    {"custom_id": "1", "method": "POST", "url": "/v1/judgments", "body": {"input": "…"}}
    {"id": "batch-1", "custom_id": "1", "response": {"status_code": 200, "request_id": "…", "body": {…}}, "error": null}

What the service answers, be it an error, is the `response`; a line that could not be sent has an `error` of its own.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from know_thyself.client.http import AsyncKnowThyself
from know_thyself.errors import UNREADABLE, DataError, RemoteError, first_fault

CONCURRENCY = 16


class BatchRequest(BaseModel):
    """A line in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    custom_id: str
    method: Literal["POST"]
    url: Literal["/v1/judgments", "/v1/systemone", "/v1/decisions"]
    body: dict[str, Any]


class BatchResponse(BaseModel):
    """What the service answered. `request_id` is its own, or the line's where it gives none."""

    status_code: int
    request_id: str
    body: Any


class BatchError(BaseModel):
    """Why there is no answer."""

    code: str
    message: str


class BatchResult(BaseModel):
    """A line out."""

    id: str
    custom_id: str | None
    response: BatchResponse | None = None
    error: BatchError | None = None

    @property
    def is_answered(self) -> bool:
        """Whether the service did what was asked."""
        return self.response is not None and self.response.status_code == 200


class BatchLine(BaseModel):
    """A line of the file by its number from 1 on: a request, or what is wrong with it."""

    number: int = Field(ge=1)
    custom_id: str | None
    sent: BatchRequest | BatchError


def read_lines(data: bytes) -> list[BatchLine]:
    """The lines of `data` that are not blank. Raises `DataError` for a `custom_id` that is there twice."""
    lines = [_line(number, line) for number, line in enumerate(data.split(b"\n"), 1) if line.strip()]
    seen: dict[str, int] = {}
    for line in lines:
        first = seen.setdefault(line.custom_id, line.number) if line.custom_id is not None else line.number
        if first != line.number:
            raise DataError(f"lines {first} and {line.number} have the same custom_id: give each line its own")
    return lines


def _line(number: int, data: bytes) -> BatchLine:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        told = f"line {number} is no JSON ({type(error).__name__}): mend it"
        return BatchLine(number=number, custom_id=None, sent=BatchError(code="invalid_json", message=told))
    custom_id = found.get("custom_id") if isinstance(found, dict) else None
    custom_id = custom_id if isinstance(custom_id, str) else None
    try:
        return BatchLine(number=number, custom_id=custom_id, sent=BatchRequest.model_validate(found))
    except ValidationError as error:
        place, told = first_fault(error)
        sent = BatchError(code="invalid_line", message=f"line {number}, {place or 'the line'}: {told}")
        return BatchLine(number=number, custom_id=custom_id, sent=sent)


async def answers(
    lines: Sequence[BatchLine], client: AsyncKnowThyself, concurrency: int = CONCURRENCY
) -> AsyncIterator[BatchResult]:
    """The result of each of `lines`, in their order, while at most `concurrency` are under way.

    Raises `RemoteError` when the service is out of reach: what was not sent can be sent again.
    """
    under_way: deque[asyncio.Task[BatchResult]] = deque()
    try:
        for line in lines:
            if len(under_way) == concurrency:
                yield await under_way.popleft()
            under_way.append(asyncio.create_task(_answer(line, client)))
        while under_way:
            yield await under_way.popleft()
    finally:
        for task in under_way:
            task.cancel()


async def _answer(line: BatchLine, client: AsyncKnowThyself) -> BatchResult:
    name = f"batch-{line.number}"
    if isinstance(line.sent, BatchError):
        return BatchResult(id=name, custom_id=line.custom_id, error=line.sent)
    try:
        answer = await client.post(line.sent.url, json.dumps(line.sent.body).encode())
        response = BatchResponse(
            status_code=answer.status_code, request_id=answer.headers.get("x-request-id", name), body=answer.json()
        )
    except RemoteError as error:
        if error.status is None and error.code != UNREADABLE:
            raise
        return BatchResult(id=name, custom_id=line.custom_id, error=BatchError(code=error.code, message=str(error)))
    except ValueError:
        told = f"{answer.url} answered {answer.status_code} with no JSON: is that a judgment service?"
        return BatchResult(id=name, custom_id=line.custom_id, error=BatchError(code=UNREADABLE, message=told))
    return BatchResult(id=name, custom_id=line.custom_id, response=response)
