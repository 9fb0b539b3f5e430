"""One engine of this process behind the service: the judge on it, the successors that take its place, and what answers.

An engine judges many questions in little more time than one. So what is asked while it works waits, and is then judged
together, request by request whole, up to a batch. The queue is bounded, in questions and in the time that they will take:
beyond it, callers are told to come back. Answers are made on the same thread, one between two batches.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from threading import Thread
from typing import Generic, Protocol, TypeVar

from know_thyself.asking import Answer, Asked, Refusal, Sampling
from know_thyself.errors import EngineError
from know_thyself.judge import JudgeCard
from serve.answering import Said as Pieces
from serve.batching import BATCH, PATIENCE, QUEUE, RETRY_AFTER, EngineThread, Result, Said, SyncJudge
from serve.errors import ServiceError
from serve.judging import BusyError

ANSWERS = 64
"""Questions that may wait for an answer."""
RECOVERY = 10.0
"""Seconds without readiness after a failure: gateways look elsewhere for a while, and then try again."""

WARM_UP = Asked(text="Are you there?")


class SpeakingJudge(SyncJudge, Protocol):
    """A judge with the model that it is of."""

    def reply(self, asked: Asked, sampling: Sampling) -> Answer | Refusal:
        """The answer to `asked`, or why there is none. Raises `EngineError`."""


Warmed = TypeVar("Warmed", bound=SpeakingJudge)
Started = TypeVar("Started", bound=SyncJudge)
Underlying_co = TypeVar("Underlying_co", bound=SyncJudge, covariant=True)


class BatchingJudge(Generic[Underlying_co]):
    """A `Judge` of the service upon a `SyncJudge`, which only the thread of `engine` touches.

    A judge that failed is not ready for `RECOVERY` seconds, or until it answers again: whoever asks is let through all the
    while.
    """

    def __init__(self, judge: Underlying_co, engine: EngineThread) -> None:
        self._judge, self._engine = judge, engine
        self._failure, self._failed_at = "", -math.inf

    @property
    def card(self) -> JudgeCard:
        """See `serve.judging.Judge`."""
        return self._judge.card

    @property
    def fault(self) -> str | None:
        """See `serve.judging.Judge`."""
        return self._failure if time.monotonic() < self._failed_at + RECOVERY else None

    @property
    def waiting(self) -> int:
        """See `serve.judging.Judge`."""
        return self._engine.waiting

    def check_room(self, number: int) -> None:
        """See `serve.judging.Judge`."""
        self._engine.check_room(number)

    async def judge(self, asked: Sequence[Asked]) -> Said:
        """See `serve.judging.Judge`."""
        self.check_room(len(asked))
        try:
            said = await self._engine.ask(self._judge, asked)
        except EngineError as error:
            self._failure, self._failed_at = str(error), time.monotonic()
            raise
        self._failed_at = -math.inf
        return said

    async def lend(self, work: Callable[[Underlying_co], Result]) -> Result:
        """What `work` makes of the judge itself, on its thread. Raises `EngineError` whatever goes wrong."""
        return await self._engine.run(partial(work, self._judge))

    async def successor(self, make: Callable[[Underlying_co], Underlying_co]) -> BatchingJudge[Underlying_co]:
        """The judge that `make` prepares beside this one, in another thread, for the same engine; it has judged once.

        Raises what `make` raises, and `EngineError` where it cannot judge.
        """
        judge = await _aside(partial(make, self._judge))
        await self._engine.ask(judge, [WARM_UP])
        return BatchingJudge(judge, self._engine)


async def _aside(work: Callable[[], Result]) -> Result:
    """What `work` comes to on a thread of its own, which keeps no process alive: a stop need not wait until it is done."""
    done: Future[Result] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(work())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where the result is awaited
            done.set_exception(error)

    Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(done)


@contextmanager
def batching(
    start: Callable[[], Started], *, batch: int = BATCH, queue: int = QUEUE, patience: float = PATIENCE
) -> Iterator[BatchingJudge[Started]]:
    """The judge that `start` makes, on a thread that ends with the context; the settings are as `EngineThread` has them.

    Raises what `start` raises.
    """
    engine = EngineThread(batch, queue, patience)
    try:
        yield BatchingJudge(engine.start(start), engine)
    finally:
        engine.end()


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
