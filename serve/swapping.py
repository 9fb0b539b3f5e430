"""A change of judges while requests come in: the new one is proven before it serves, and the old one ends what it began.

A request belongs to the judge that served when it came (`serve.serving`). So the swap is one assignment between two
requests, no answer mixes two judges, and the old judge goes when the last request lets go of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from know_thyself.errors import JudgeError, in_a_line
from know_thyself.judge import read_judge
from serve.registry import Appointed, Successors
from serve.service import Service
from serve.serving import Serving

log = logging.getLogger("serve.swapping")


class Succession:
    """Puts the judge that the registry names in the place of the one that serves, where it is found sound."""

    def __init__(self, successors: Successors, serving: Serving) -> None:
        self._registry, self._load, self._serving = successors.registry, successors.load, serving
        self._seen: Appointed | None = None
        self._one_at_a_time = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """The judges that can be appointed."""
        return self._registry.names

    async def appoint(self, name: str) -> Service:
        """Let the judge `name` serve, and the registry name it. Raises `JudgeError` that says why it must not."""
        async with self._one_at_a_time:
            with self._refusing(name):
                service = await self._proven(name)
                self._seen = self._registry.appoint(name)
            self._install(name, service)
            return service

    async def look(self) -> None:
        """Swap where the registry names another judge than it did. A judge that is refused is told, and not tried again."""
        async with self._one_at_a_time:
            if (appointed := self._registry.appointed) == self._seen:
                return
            self._seen = appointed
            with suppress(JudgeError), self._refusing(appointed.name):
                if not await self._is_serving(appointed.name):
                    self._install(appointed.name, await self._proven(appointed.name))

    async def _is_serving(self, name: str) -> bool:
        card = await asyncio.to_thread(read_judge, self._registry.judge(name))
        return card == self._serving.prod.judge.card

    async def _proven(self, name: str) -> Service:
        """The service of the judge `name`, which is sound and can take the place of the one that serves."""
        return self._serving.prepare(await self._load(self._registry.judge(name)))

    def _install(self, name: str, service: Service) -> None:
        self._serving.prod = service
        self._serving.prod.meter.swap("done")
        log.info("judge %s (%s) serves from now on", name, service.judge_digest)

    @contextmanager
    def _refusing(self, name: str) -> Iterator[None]:
        """Log and count whatever keeps the judge `name` out, and raise it as `JudgeError`."""
        try:
            yield
        except Exception as error:
            told = in_a_line(error)
            log.error("judge %s is refused, and the one before serves on: %s", ascii(name), told)
            self._serving.prod.meter.swap("refused")
            raise JudgeError(told) from error
