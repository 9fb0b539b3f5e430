"""One judge in this process behind the service: a thread that owns the engine, and batches that form while it is busy.

An engine judges many questions in little more time than one. So what is asked while it works waits, and is then judged
together, request by request whole, up to a batch. The queue is bounded: beyond it, callers are told to come back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Protocol, Self, TypeVar

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import EngineError, KnowThyselfError, first_line
from know_thyself.judge import JudgeCard
from serve.judging import BusyError, check_said

BATCH = 128
QUEUE = 1024
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


Warmed = TypeVar("Warmed", bound=SyncJudge)


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one caller asked, and where it waits for what is said of it."""

    asked: Sequence[Asked]
    said: asyncio.Future[Said]


class BatchingJudge:
    """A `Judge` of the service upon a `SyncJudge`; a context manager, whose thread is the only one to touch that judge.

    A batch holds whole requests of `batch` questions together, or a single request of more; `queue` questions may wait. A judge
    that failed is not ready for `RECOVERY` seconds, or until it answers again: whoever asks is let through all the while. For
    one event loop.
    """

    def __init__(self, start: Callable[[], SyncJudge], *, batch: int = BATCH, queue: int = QUEUE) -> None:
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
        known = isinstance(error, KnowThyselfError)
        self._failure = first_line(error) if known else f"{type(error).__name__}: {first_line(error)}"
        self._failed_at = time.monotonic()
        for ticket in tickets:
            if not ticket.said.done():
                ticket.said.set_exception(EngineError(self._failure))


def warmed(judge: Warmed) -> Warmed:
    """`judge`, which has judged once, so that no caller waits for its weights. Raises what that raises."""
    judge.judge_each([WARM_UP])
    return judge


def _hand_out(tickets: Sequence[_Ticket], said: Said) -> None:
    """Give each of `tickets` its part of what was `said` of all their questions."""
    start = 0
    for ticket in tickets:
        end = start + len(ticket.asked)
        if not ticket.said.done():
            ticket.said.set_result(said[start:end])
        start = end
