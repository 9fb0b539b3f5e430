"""A judge in a replica of its own, for a canary or a shadow: asked through a handle, as if it were here."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ray.exceptions import RayError
from ray.serve.exceptions import BackPressureError, RayServeException
from ray.serve.handle import DeploymentHandle

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import EngineError, first_line
from know_thyself.judge import JudgeCard
from serve.judging import BusyError
from serve.local import RECOVERY
from serve.startup import started

Handle = DeploymentHandle[Any]
RETRY_AFTER = 1
"""Seconds after which a replica may have room again."""


class JudgeReplica:
    """The judge of a folder in this process, with an engine of its own."""

    def __init__(self, folder: Path, backend: str) -> None:
        self._opened = ExitStack()
        self._judge = self._opened.enter_context(started(folder, backend))

    async def card(self) -> JudgeCard:
        """What the judge is bound to, and what it promises."""
        return self._judge.card

    async def judge(self, asked: Sequence[Asked]) -> Sequence[Opinion | Refusal]:
        """See `serve.judging.Judge`."""
        return await self._judge.judge(asked)

    async def check_health(self) -> None:
        """Raise `EngineError` while the judge cannot judge, so that Ray Serve starts another."""
        if self._judge.fault:
            raise EngineError(self._judge.fault)

    def __del__(self) -> None:
        """End the engine's thread and remove what it had on disk; Ray Serve calls it before a replica goes."""
        self._opened.close()


class RemoteJudge:
    """A `Judge` of the service upon a handle to `JudgeReplica`. One that failed is left alone for a while."""

    waiting = 0

    def __init__(self, handle: Handle, card: JudgeCard) -> None:
        self.card = card
        self._handle = handle
        self._failure, self._failed_at = "", -math.inf

    @property
    def fault(self) -> str | None:
        """See `serve.judging.Judge`."""
        return self._failure if time.monotonic() < self._failed_at + RECOVERY else None

    async def judge(self, asked: Sequence[Asked]) -> Sequence[Opinion | Refusal]:
        """See `serve.judging.Judge`."""
        try:
            said: Sequence[Opinion | Refusal] = await self._handle.judge.remote(list(asked))
        except BackPressureError as error:
            raise BusyError(RETRY_AFTER) from error
        except (RayError, RayServeException, EngineError) as error:
            self._failure, self._failed_at = first_line(error), time.monotonic()
            raise EngineError(self._failure) from error
        return said


async def remote_judge(handle: Handle | None) -> RemoteJudge | None:
    """The judge behind `handle`, where there is one, as soon as it is ready."""
    return RemoteJudge(handle, await handle.card.remote()) if handle else None
