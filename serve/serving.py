"""By which of its judges an app answers a request.

The judge is chosen once, when a request comes, and everything in the answer is that one's: its opinion, its promises, its name,
and the id of the judgment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request

from serve.auth import Keys
from serve.judging import Judge
from serve.registry import Successors
from serve.service import Service
from serve.shadow import Shadowed

QUESTION = 32
"""Bytes of a body that hold no more than a question."""
SHORT = 4
"""Digits of the length of a body of so few questions that it is known before it is read whether there is room for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """The judges of an app besides the one that serves.

    A `canary` takes a `share` of its requests, a `shadow` only hears them, and one of the `successors` may take its place.
    """

    canary: Judge | None = None
    share: float = 0.0
    shadow: Judge | None = None
    successors: Successors | None = None


class Serving:
    """The services of an app: `prod`, which may be changed at any time, and perhaps a canary."""

    def __init__(self, serve: Callable[[Judge], Service], judge: Judge, others: Others) -> None:
        """`serve` makes the service of a judge, and raises `KnowThyselfError` for one that cannot take the place of `judge`."""
        self._serve, self._others = serve, others
        self.prod = self.prepare(judge)
        self.canary = serve(others.canary) if others.canary else None

    def prepare(self, judge: Judge) -> Service:
        """The service that `judge` gives as `prod`. Raises `KnowThyselfError` where it cannot be that."""
        service = self._serve(judge)
        shadow = self._others.shadow
        return replace(service, judge=Shadowed(judge, shadow, service.meter)) if shadow else service

    def check(self, keys: Keys) -> None:
        """Raise `ConfigError` where one of `keys` asks for what a judge that answers its requests cannot promise."""
        for service in filter(None, (self.prod, self.canary)):
            service.decider.check(keys.keys)

    def check_room(self, length: str) -> None:
        """Raise `BusyError` where a request need not be read, by the `length` of its body in its header: there is no room.

        Nothing is known of a body that is long or does not say its length, nor of one that a canary may judge.
        """
        if length.isdigit() and len(length) <= SHORT and self.canary is None:
            self.prod.judge.check_room(1 + int(length) // QUESTION)

    def of(self, body: bytes) -> Service:
        """The service that answers a request of this `body`: the same again for the same body; the canary only while it can."""
        prod, canary = self.prod, self.canary
        is_canary = canary is not None and canary.judge.fault is None and place(body) < self._others.share
        prod.meter.role("canary" if is_canary else "prod")
        return replace(canary, stands_for=prod.model) if canary and is_canary else prod


def place(body: bytes) -> float:
    """Where a request of this `body` stands in [0, 1): spread evenly, and fixed."""
    return int.from_bytes(hashlib.sha256(body).digest()[:6], "big") / 2**48


async def _service(request: Request) -> Service:
    serving: Serving = request.app.state.serving
    return serving.of(await request.body())


async def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Served = Annotated[Service, Depends(_service)]
"""The service that answers this request for a judgment, from its beginning to its end."""
AllServed = Annotated[Serving, Depends(_serving)]
"""All services of the app that a route belongs to."""
