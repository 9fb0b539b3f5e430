"""A judge that is only listened to: it is asked what was asked, after the answer, and what it says is counted, never used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import EngineError, first_line
from know_thyself.judge import JudgeCard
from serve.judging import Judge, check_said
from serve.metrics import Meter

WAITING = 64
"""Requests that may wait for the shadow; it is not asked about those beyond."""

log = logging.getLogger("serve.shadow")


class Shadowed:
    """The judge `judge` in every respect, with a `shadow` that hears all it is asked."""

    def __init__(self, judge: Judge, shadow: Judge, meter: Meter) -> None:
        self._judge, self._shadow, self._meter = judge, shadow, meter
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def card(self) -> JudgeCard:
        """See `serve.judging.Judge`."""
        return self._judge.card

    @property
    def fault(self) -> str | None:
        """See `serve.judging.Judge`."""
        return self._judge.fault

    @property
    def waiting(self) -> int:
        """See `serve.judging.Judge`."""
        return self._judge.waiting

    def check_room(self, number: int) -> None:
        """See `serve.judging.Judge`."""
        self._judge.check_room(number)

    async def judge(self, asked: Sequence[Asked]) -> Sequence[Opinion | Refusal]:
        """See `serve.judging.Judge`; the shadow delays no answer and spoils none."""
        said = await self._judge.judge(asked)
        if len(self._asking) < WAITING:
            task = asyncio.get_running_loop().create_task(self._listen(asked, said))
            self._asking.add(task)
            task.add_done_callback(self._asking.discard)
        else:
            self._meter.shadow_skipped(len(asked))
        return said

    async def _listen(self, asked: Sequence[Asked], said: Sequence[Opinion | Refusal]) -> None:
        """Count what the shadow says beside what was `said`."""
        try:
            heard = await self._shadow.judge(asked)
            check_said(asked, heard)
        except EngineError as error:
            log.warning("the shadow judge failed: %s", first_line(error))
            self._meter.shadow_skipped(len(asked))
            return
        for used, other in zip(said, heard, strict=True):
            if isinstance(used, Opinion) and isinstance(other, Opinion):
                self._meter.shadow(used, other)
