"""One engine of this process behind the service: the judge on it, and the successors that take its place.

An engine judges many questions in little more time than one. So what is asked while it works waits, and is then judged
together, request by request whole, up to a batch. The queue is bounded: beyond it, callers are told to come back.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Generic, TypeVar

from know_thyself.asking import Asked
from know_thyself.errors import EngineError
from know_thyself.judge import JudgeCard
from serve.batching import BATCH, QUEUE, EngineThread, Said, SyncJudge

RECOVERY = 10.0
"""Seconds without readiness after a failure: gateways look elsewhere for a while, and then try again."""

WARM_UP = Asked(text="Are you there?")

Underlying = TypeVar("Underlying", bound=SyncJudge)


class BatchingJudge(Generic[Underlying]):
    """A `Judge` of the service upon a `SyncJudge`, which only the thread of `engine` touches.

    A judge that failed is not ready for `RECOVERY` seconds, or until it answers again: whoever asks is let through all the
    while.
    """

    def __init__(self, judge: Underlying, engine: EngineThread) -> None:
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

    async def judge(self, asked: Sequence[Asked]) -> Said:
        """See `serve.judging.Judge`."""
        self._engine.check_room(len(asked))
        try:
            said = await self._engine.ask(self._judge, asked)
        except EngineError as error:
            self._failure, self._failed_at = str(error), time.monotonic()
            raise
        self._failed_at = -math.inf
        return said

    async def successor(self, make: Callable[[Underlying], Underlying]) -> BatchingJudge[Underlying]:
        """The judge that `make` prepares beside this one, in another thread, for the same engine; it has judged once.

        Raises what `make` raises, and `EngineError` where it cannot judge.
        """
        judge = await asyncio.to_thread(make, self._judge)
        await self._engine.ask(judge, [WARM_UP])
        return BatchingJudge(judge, self._engine)


@contextmanager
def batching(start: Callable[[], Underlying], *, batch: int = BATCH, queue: int = QUEUE) -> Iterator[BatchingJudge[Underlying]]:
    """The judge that `start` makes, on a thread that ends with the context; `batch` and `queue` as `EngineThread` has them.

    Raises what `start` raises.
    """
    engine = EngineThread(batch, queue)
    try:
        yield BatchingJudge(engine.start(start), engine)
    finally:
        engine.end()


def warmed(judge: Underlying) -> Underlying:
    """`judge`, which has judged once, so that no caller waits for its weights. Raises what that raises."""
    judge.judge_each([WARM_UP])
    return judge
