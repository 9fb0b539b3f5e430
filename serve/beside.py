"""What has a replica of its own on Ray Serve, and is asked through a handle as if it were here.

That is a judge, for a canary or a shadow, and the counts of what each key asked, which hold for all replicas together.
"""

from __future__ import annotations

import logging
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
from serve.batching import RETRY_AFTER
from serve.errors import ServiceError
from serve.judging import BusyError
from serve.local import RECOVERY
from serve.startup import started

Handle = DeploymentHandle[Any]

log = logging.getLogger("serve")


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


class SharedStore:
    """A `RateStore` upon a handle to the one `LocalStore` of all replicas."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def take(self, name: str, per_minute: int, cost: int) -> float:
        """See `RateStore`. Raises `ServiceError` 503 where it does not answer: nothing goes by uncounted."""
        try:
            wait: float = await self._handle.take.remote(name, per_minute, cost)
        except (RayError, RayServeException) as error:
            log.error("requests cannot be counted: %s", first_line(error))
            told = "limits cannot be counted for now: ask again later"
            raise ServiceError(503, "limits_failed", told, retry_after=RETRY_AFTER) from error
        return wait


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

    def check_room(self, number: int) -> None:
        """See `serve.judging.Judge`: how much waits there is not known here."""

    async def judge(self, asked: Sequence[Asked]) -> Sequence[Opinion | Refusal]:
        """See `serve.judging.Judge`."""
        try:
            said: Sequence[Opinion | Refusal] = await self._handle.judge.remote(list(asked))
        except (BackPressureError, BusyError) as error:
            raise BusyError(RETRY_AFTER) from error
        except (RayError, RayServeException, EngineError) as error:
            self._failure, self._failed_at = first_line(error), time.monotonic()
            raise EngineError(self._failure) from error
        return said


async def remote_judge(handle: Handle | None) -> RemoteJudge | None:
    """The judge behind `handle`, where there is one, as soon as it is ready."""
    return RemoteJudge(handle, await handle.card.remote()) if handle else None
