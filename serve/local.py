"""One judge in this process behind the service: a thread that owns its engines, and batches that form while it is busy.

An engine judges many questions in little more time than one. So what is asked while it works waits, and is then judged
together, request by request whole, up to a batch. The queue is bounded: beyond it, callers are told to come back. Answers are
made on the same thread, one between two batches.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.errors import EngineError, KnowThyselfError, first_line
from know_thyself.judge import JudgeCard
from serve.answering import Said as Pieces
from serve.errors import ServiceError
from serve.judging import BusyError, check_said

BATCH = 128
QUEUE = 1024
ANSWERS = 64
"""Questions that may wait for an answer."""
RETRY_AFTER = 1
"""Seconds after which a full queue may have room."""

RECOVERY = 10.0
"""Seconds without readiness after a failure: gateways look elsewhere for a while, and then try again."""

WARM_UP = Asked(text="Are you there?")

Said = list[Opinion | Refusal]


class SyncJudge(Protocol):
    """A judge that is asked from one thread, such as `LocalJudge`."""

    @property
    def card(self) -> JudgeCard:
        """What the judge is bound to, and what it promises."""

    def judge_each(self, asked: Sequence[Asked]) -> Said:
        """An opinion on each of `asked`, or why there is none. Raises `EngineError`."""


class SpeakingJudge(SyncJudge, Protocol):
    """A judge with the model that it is of."""

    def reply(self, asked: Asked, sampling: Sampling) -> Answer | Refusal:
        """The answer to `asked`, or why there is none. Raises `EngineError`."""


Warmed = TypeVar("Warmed", bound=SpeakingJudge)
Owned_co = TypeVar("Owned_co", bound=SyncJudge, covariant=True)
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one caller asked, and where it waits for what is said of it."""

    asked: Sequence[Asked]
    said: asyncio.Future[Said]


class BatchingJudge(Generic[Owned_co]):
    """A `Judge` of the service upon a `SyncJudge`; a context manager, whose thread is the only one to touch that judge.

    A batch holds whole requests of `batch` questions together, or a single request of more; `queue` questions may wait. A judge
    that failed is not ready for `RECOVERY` seconds, or until it answers again: whoever asks is let through all the while. For
    one event loop.
    """

    def __init__(self, start: Callable[[], Owned_co], *, batch: int = BATCH, queue: int = QUEUE) -> None:
        """Start the judge on its thread and wait for it; raises what `start` raises."""
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")
        self._batch, self._queue = batch, queue
        self._tickets: deque[_Ticket] = deque()
        self._waiting = 0
        self._running: asyncio.Task[None] | None = None
        self._failure, self._failed_at = "", -math.inf
        try:
            self._judge = self._thread.submit(start).result()
        except BaseException:
            self._thread.shutdown()
            raise

    @property
    def card(self) -> JudgeCard:
        """See `serve.judging.Judge`."""
        return self._judge.card

    @property
    def fault(self) -> str | None:
        """See `serve.judging.Judge`."""
        return self._failure if time.monotonic() < self._failed_at + RECOVERY else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def judge(self, asked: Sequence[Asked]) -> Said:
        """See `serve.judging.Judge`."""
        if self._waiting and self._waiting + len(asked) > self._queue:
            raise BusyError(RETRY_AFTER)
        loop = asyncio.get_running_loop()
        ticket = _Ticket(asked, loop.create_future())
        self._tickets.append(ticket)
        self._waiting += len(asked)
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._work())
        return await ticket.said

    async def lend(self, work: Callable[[Owned_co], Result]) -> Result:
        """What `work` makes of the judge itself, on its thread. Raises `EngineError` whatever goes wrong."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, self._judge)
        except Exception as error:
            raise EngineError(_line(error)) from error

    async def _work(self) -> None:
        """Judge batch after batch until nobody waits."""
        while tickets := self._next():
            asked = [one for ticket in tickets for one in ticket.asked]
            try:
                said = await asyncio.get_running_loop().run_in_executor(self._thread, self._judge.judge_each, asked)
                check_said(asked, said)
            except Exception as error:  # noqa: BLE001 - whatever it is, those who wait have to hear of it
                self._fail(tickets, error)
            else:
                self._failed_at = -math.inf
                _hand_out(tickets, said)

    def _next(self) -> list[_Ticket]:
        """The requests to judge next: as many as fit a batch, and one at least; those whose caller left are dropped."""
        taken: list[_Ticket] = []
        size = 0
        while self._tickets and (not taken or size + len(self._tickets[0].asked) <= self._batch):
            ticket = self._tickets.popleft()
            self._waiting -= len(ticket.asked)
            if not ticket.said.done():
                taken.append(ticket)
                size += len(ticket.asked)
        return taken

    def _fail(self, tickets: Sequence[_Ticket], error: Exception) -> None:
        self._failure = _line(error)
        self._failed_at = time.monotonic()
        for ticket in tickets:
            if not ticket.said.done():
                ticket.said.set_exception(EngineError(self._failure))


class LocalAnswerer:
    """An `Answerer` upon the judge that `judge` owns. `queue` questions may wait; an answer comes in one piece."""

    def __init__(self, judge: BatchingJudge[SpeakingJudge], *, queue: int = ANSWERS) -> None:
        self._judge, self._queue = judge, queue
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def answer(self, asked: Asked, sampling: Sampling) -> Pieces:
        """See `serve.answering.Answerer`."""
        if self._waiting >= self._queue:
            raise BusyError(RETRY_AFTER)
        self._waiting += 1
        try:
            async with self._turn:
                said = await self._judge.lend(lambda judge: judge.reply(asked, sampling))
        finally:
            self._waiting -= 1
        if isinstance(said, Refusal):
            raise ServiceError(400, said.fault, said.reason, "messages")
        yield said.text
        yield said


def warmed(judge: Warmed, answers: bool) -> Warmed:
    """`judge`, which has judged once, and answered where it `answers`, so that no caller waits for weights.

    Raises what that raises.
    """
    judge.judge_each([WARM_UP])
    if answers:
        judge.reply(WARM_UP, Sampling())
    return judge


def _line(error: Exception) -> str:
    return first_line(error) if isinstance(error, KnowThyselfError) else f"{type(error).__name__}: {first_line(error)}"


def _hand_out(tickets: Sequence[_Ticket], said: Said) -> None:
    """Give each of `tickets` its part of what was `said` of all their questions."""
    start = 0
    for ticket in tickets:
        end = start + len(ticket.asked)
        if not ticket.said.done():
            ticket.said.set_result(said[start:end])
        start = end
