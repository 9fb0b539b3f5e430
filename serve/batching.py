"""The thread that owns an engine, and the requests that wait for it: what waits is judged together, batch by batch."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Protocol, TypeVar

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import EngineError, in_a_line
from know_thyself.judge import JudgeCard
from serve.judging import BusyError, check_said

BATCH = 128
QUEUE = 1024
PATIENCE = 0.4
"""Seconds that a question may wait for those before it: what would wait longer is better asked elsewhere, or later."""
FAIR = 8
"""By how much longer than itself a request may wait: so lists wait for lists also where one takes longer than `PATIENCE`."""
PACES = 9
"""The batches by whose middle pace it is told how long what waits will take: one that is slow, as after a swap, is not."""
RETRY_AFTER = 1
"""Seconds after which a full queue may have room."""

Said = list[Opinion | Refusal]
Started = TypeVar("Started")
Result = TypeVar("Result")


class SyncJudge(Protocol):
    """A judge that is asked from one thread, such as `LocalJudge`."""

    @property
    def card(self) -> JudgeCard:
        """What the judge is bound to, and what it promises."""

    def judge_each(self, asked: Sequence[Asked]) -> Said:
        """An opinion on each of `asked`, or why there is none. Raises `EngineError`."""


@dataclass(frozen=True, slots=True)
class _Ticket:
    """What one caller asked, of which judge, and where it waits for what is said of it."""

    judge: SyncJudge
    asked: Sequence[Asked]
    said: asyncio.Future[Said]


class EngineThread:
    """The one thread that touches an engine and the judges on it, and the queue before it. For one event loop.

    A batch holds whole requests to one judge, of `batch` questions together, or a single request of more; `queue` questions
    may wait, and none for longer than `patience` seconds or `FAIR` requests like its own, as far as that can be foretold. What
    came first is judged first: a judge that takes over does so where the requests to it begin. Other work gets its turn
    between two batches.
    """

    def __init__(self, batch: int, queue: int, patience: float = PATIENCE) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="judge")
        self._batch, self._queue, self._patience = batch, queue, patience
        self._tickets: deque[_Ticket] = deque()
        self._paces: deque[float] = deque(maxlen=PACES)
        self.waiting = self._working = 0
        self._began = 0.0
        self._running: asyncio.Task[None] | None = None

    def start(self, start: Callable[[], Started]) -> Started:
        """What `start` makes on the thread. Raises what that raises."""
        return self._thread.submit(start).result()

    def end(self) -> None:
        """Finish what the thread does, and nothing more."""
        self._thread.shutdown(cancel_futures=True)

    def check_room(self, number: int) -> None:
        """Raise `BusyError` where so many questions do not fit beside those that wait, or would wait too long for them."""
        if self.waiting and (self.waiting + number > self._queue or self._is_too_late(number)):
            raise BusyError(RETRY_AFTER)

    def _is_too_late(self, number: int) -> bool:
        """Whether a request of so many questions would wait too long for those before it, by the pace of the last batches.

        What is being judged already takes as long as it has taken, however few it is.
        """
        if self.waiting + self._working <= FAIR * number or not self._paces:
            return False
        pace = median(self._paces)
        under_way = max(self._working * pace, time.perf_counter() - self._began) if self._working else 0.0
        return self.waiting * pace + under_way > self._patience

    async def ask(self, judge: SyncJudge, asked: Sequence[Asked]) -> Said:
        """What `judge` says of `asked`, room or not. Raises `EngineError` where the judge fails."""
        loop = asyncio.get_running_loop()
        ticket = _Ticket(judge, asked, loop.create_future())
        self._tickets.append(ticket)
        self.waiting += len(asked)
        if self._running is None or self._running.done():
            self._running = loop.create_task(self._work())
        return await ticket.said

    async def run(self, work: Callable[[], Result]) -> Result:
        """What `work` comes to on the thread, as soon as that is free. Raises `EngineError` whatever goes wrong."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, _sealed, work)
        except Exception as error:
            raise EngineError(in_a_line(error)) from error

    async def _work(self) -> None:
        """Judge batch after batch until nobody waits."""
        while tickets := self._next():
            judge, asked = tickets[0].judge, [one for ticket in tickets for one in ticket.asked]
            self._began, self._working = time.perf_counter(), len(asked)
            try:
                said = await self.run(partial(judge.judge_each, asked))
                check_said(asked, said)
            except EngineError as error:
                _fail(tickets, error)
            else:
                self._paces.append((time.perf_counter() - self._began) / len(asked))
                _hand_out(tickets, said)
            self._working = 0

    def _next(self) -> list[_Ticket]:
        """The requests to judge next: as many to one judge as fit a batch, one at least; none whose caller left."""
        taken: list[_Ticket] = []
        size = 0
        while self._tickets and (not taken or self._fits(self._tickets[0], taken[0].judge, size)):
            ticket = self._tickets.popleft()
            self.waiting -= len(ticket.asked)
            if not ticket.said.done():
                taken.append(ticket)
                size += len(ticket.asked)
        return taken

    def _fits(self, ticket: _Ticket, judge: SyncJudge, size: int) -> bool:
        return ticket.judge is judge and size + len(ticket.asked) <= self._batch


def _sealed(work: Callable[[], Result]) -> Result:
    """What `work` comes to. Of all that it may raise, no future takes a `StopIteration`: who waits would wait for ever."""
    try:
        return work()
    except StopIteration as error:
        raise RuntimeError("something was looked for and is not there") from error


def _fail(tickets: Sequence[_Ticket], error: EngineError) -> None:
    for ticket in tickets:
        if not ticket.said.done():
            ticket.said.set_exception(EngineError(str(error)))


def _hand_out(tickets: Sequence[_Ticket], said: Said) -> None:
    """Give each of `tickets` its part of what was `said` of all their questions."""
    start = 0
    for ticket in tickets:
        end = start + len(ticket.asked)
        if not ticket.said.done():
            ticket.said.set_result(said[start:end])
        start = end
