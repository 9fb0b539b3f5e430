"""What the two HTTP clients share: how requests are made, answers read, and what is tried again until when."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar

import httpx2
from pydantic import TypeAdapter, ValidationError

from know_thyself.errors import UNREACHABLE, UNREADABLE, ConfigError, DataError, RemoteError, first_fault
from know_thyself.wire import (
    Bar,
    ChatMessage,
    Error,
    ErrorItem,
    ErrorResponse,
    Item,
    JudgmentItem,
    JudgmentRequest,
    JudgmentResponse,
)

PATH = "/v1/judgments"
PIECE = 32
"""Inputs of one request where many are judged: few enough for any body limit, enough for an engine's batch."""
NO_KEY = "api_key holds no key that can be sent: give one of printable ASCII characters, or None"

Contexts = Sequence[str | None]
Judged = JudgmentItem | ErrorItem
ItemLike = str | Sequence[ChatMessage] | Sequence[Mapping[str, Any]]
"""A question, or a chat as its turns, typed or as plain objects."""
Kind = TypeVar("Kind")
_ITEM: TypeAdapter[Item] = TypeAdapter(Item)


def key_in(text: str, told: str) -> str:
    """The key in `text`, without the space around it. Raises `ConfigError`, as `told`, where no header can hold it."""
    key = text.strip()
    if not key or not key.isascii() or not key.isprintable():
        raise ConfigError(told)
    return key


@dataclass(frozen=True, slots=True)
class Service:
    """Where a service is, and what is sent with every request to it."""

    base_url: str
    api_key: str | None = field(repr=False)
    timeout: float

    @property
    def root(self) -> str:
        """What the paths of routes come after; a base URL may end in `/v1`, as other clients want it."""
        return self.base_url.rstrip("/").removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """The headers of every request. Raises `ConfigError`, which does not show the key, for one that no header can hold."""
        key = {"Authorization": f"Bearer {key_in(self.api_key, NO_KEY)}"} if self.api_key else {}
        return {"Content-Type": "application/json", **key}

    def call(self) -> Call:
        """A call that starts now."""
        return Call(self, time.monotonic() + self.timeout)


@dataclass(frozen=True, slots=True)
class Call:
    """One request with its tries, all of which end by `deadline` on the monotonic clock."""

    service: Service
    deadline: float

    @property
    def left(self) -> float:
        """Seconds left; never none, so that a try made in time is made."""
        return max(self.deadline - time.monotonic(), 0.001)

    @property
    def pause(self) -> float:
        """The longest wait between two tries where the service names none, in seconds."""
        return min(2.0, self.service.timeout / 10)

    @property
    def tries(self) -> dict[str, Any]:
        """How stamina is to try again."""
        return {"attempts": None, "timeout": self.service.timeout, "wait_initial": self.pause / 20, "wait_max": self.pause}

    def again(self, error: Exception) -> bool | float:
        """Whether to try again after `error`, or in how many seconds: as the service asks, never past the deadline."""
        if not isinstance(error, RemoteError) or not error.is_passing:
            return False
        if self.left <= (self.pause if error.retry_after is None else error.retry_after):
            return False
        return True if error.retry_after is None else error.retry_after

    @contextmanager
    def reaching(self) -> Iterator[None]:
        """Errors of the network, and of how an answer is encoded, as `RemoteError`."""
        try:
            yield
        except (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError, httpx2.InvalidURL) as error:
            told = (
                f"{self.service.root} cannot be asked ({type(error).__name__}): give an address such as http://127.0.0.1:8700"
            )
            raise RemoteError(told, "invalid_url") from error
        except httpx2.TransportError as error:
            told = f"{self.service.root} cannot be reached ({type(error).__name__}): is the service running there?"
            raise RemoteError(told, UNREACHABLE) from error
        except httpx2.RequestError as error:
            told = f"{self.service.root} answered what cannot be read ({type(error).__name__}): is that a judgment service?"
            raise RemoteError(told, UNREADABLE) from error


def request_of(item: ItemLike, context: str | None, bar: Bar) -> JudgmentRequest:
    """The request for a judgment on `item`. Raises `DataError` where that is neither a text nor a list of turns."""
    sent = {"input": _valid(_ITEM, item, "input"), "context": context, **bar.model_dump()}
    return _valid(TypeAdapter(JudgmentRequest), sent, "request")


def bar_of(threshold: float | None, target_accuracy: float | None) -> Bar:
    """The bar of a request. Raises `DataError` where it is none."""
    return _valid(TypeAdapter(Bar), {"threshold": threshold, "target_accuracy": target_accuracy}, "request")


def _valid(kind: TypeAdapter[Kind], value: object, name: str) -> Kind:
    """`value` as what it has to be. Raises `DataError` that names the place of the fault and not its text."""
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        place, told = first_fault(error)
        raise DataError(f"{'.'.join(filter(None, (name, place)))}: {told}") from None


def body_of(request: JudgmentRequest) -> bytes:
    """`request` as it is sent: in ASCII, so that even half a character arrives, and is refused in its place."""
    return json.dumps(request.model_dump(exclude_none=True)).encode()


def settled(response: httpx2.Response) -> httpx2.Response:
    """`response`, unless it says that the same may succeed later. Raises `RemoteError` then."""
    fault = _fault_in(response)
    if fault and fault.is_passing:
        raise fault
    return response


def read(response: httpx2.Response) -> JudgmentResponse:
    """The judgments in `response`. Raises `RemoteError` with the service's message and code."""
    if fault := _fault_in(response):
        raise fault
    try:
        return JudgmentResponse.model_validate_json(response.content)
    except ValidationError:
        raise _unreadable(response) from None


def _fault_in(response: httpx2.Response) -> RemoteError | None:
    """What the service said instead of an answer; None where `response` is a success."""
    if response.is_success:
        return None
    try:
        error = ErrorResponse.model_validate_json(response.content).error
    except ValidationError:
        return _unreadable(response)
    return RemoteError(error.message, error.code, response.status_code, _retry_after(response))


def _unreadable(response: httpx2.Response) -> RemoteError:
    told = f"{response.url} answered {response.status_code} with a body of another shape: is that a judgment service?"
    return RemoteError(told, UNREADABLE, response.status_code, _retry_after(response))


def _retry_after(response: httpx2.Response) -> float | None:
    """The seconds in `Retry-After`, which is a number or a date; None where it is neither."""
    told = response.headers.get("retry-after", "").strip()
    if told.isdigit():
        return float(told)
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None


@dataclass(slots=True)
class Course:
    """How the pieces of many inputs have fared: whether one was judged, and the error that would meet all others."""

    is_served: bool = False
    error: RemoteError | None = None

    def ends_by(self, error: RemoteError) -> bool:
        """Whether `error` would meet every other piece as well, as does a service that was never there."""
        return not error.is_passing or (error.code == UNREACHABLE and not self.is_served)


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of many inputs that is sent as one request, from place `start` on; all pieces share their `course`."""

    start: int
    request: JudgmentRequest
    course: Course

    @property
    def sent(self) -> JudgmentRequest:
        """The request, at the time when it is sent. Raises the `RemoteError` that has met another piece and would meet all."""
        if self.course.error:
            raise self.course.error
        return self.request

    def placed(self, response: JudgmentResponse) -> list[Judged]:
        """The judgments in `response` under their places among all. Raises `RemoteError` unless each input has one."""
        self.course.is_served = True
        if [item.index for item in response.data] != list(range(len(self.request.items))):
            raise RemoteError("the service answered for other inputs than were sent: is it of this version?", UNREADABLE)
        return [item.model_copy(update={"index": self.start + item.index}) for item in response.data]

    def failed(self, error: RemoteError) -> list[Judged]:
        """`error` in the place of each judgment; raised instead where it would meet every other piece as well."""
        if self.course.ends_by(error):
            self.course.error = error
            raise error
        told = Error(message=str(error), type="server_error", code=error.code)
        return [ErrorItem(index=self.start + i, error=told) for i in range(len(self.request.items))]


def pieces_of(items: Sequence[ItemLike], contexts: Contexts | None, bar: Bar) -> list[Piece]:
    """`items` with their contexts, piece by piece. Raises `DataError` unless there are as many of these as of those."""
    if contexts is not None and len(contexts) != len(items):
        raise DataError(f"{len(contexts)} contexts for {len(items)} inputs: give each its own, or None")
    typed = [_valid(_ITEM, item, f"input {place}") for place, item in enumerate(items)]
    pieces, course = list[Piece](), Course()
    for start in range(0, len(typed), PIECE):
        told = None if contexts is None else list(contexts[start : start + PIECE])
        sent = {"input": typed[start : start + PIECE], "context": told, **bar.model_dump()}
        pieces.append(Piece(start, _valid(TypeAdapter(JudgmentRequest), sent, "request"), course))
    return pieces


def only(response: JudgmentResponse) -> JudgmentItem:
    """The one judgment of `response`. Raises `RemoteError` where there is another number of them."""
    match response.data:
        case [JudgmentItem() as judgment]:
            return judgment
    raise RemoteError("the service answered one input with no judgment, or with many", UNREADABLE)
