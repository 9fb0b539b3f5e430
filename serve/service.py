"""What the routes of one app share, and by which of its judges a request is answered.

The judge is chosen once, when a request comes, and everything in the answer is that one's: its opinion, its promises, its name.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated

from fastapi import Depends, Request

from know_thyself.digests import SHORT
from know_thyself.wire import CalibrationInfo
from serve.deciding import Decider
from serve.errors import ServiceError
from serve.judging import Judge
from serve.metrics import Meter
from serve.registry import Successors
from serve.shadow import Shadowed

PROD = "kt/prod"
"""The name by which clients ask for whatever judge serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The judge that is asked, what decides, what counts, and since when (seconds since 1970) this app has been there.

    Of a canary, `stands_for` is the name of the model whose requests it shares.
    """

    judge: Judge
    decider: Decider
    meter: Meter
    created: int
    stands_for: str | None = None

    @property
    def model(self) -> str:
        """The name of the judge for clients: that of the experiment it comes from, never a path."""
        return f"kt/{self.judge.card.experiment}"

    @property
    def judge_digest(self) -> str:
        """Which judge it is, to the bit."""
        return self.judge.card.digest[:SHORT]

    @property
    def calibration(self) -> CalibrationInfo | None:
        """What p_correct rests on."""
        found = self.judge.card.calibration
        return None if found is None else CalibrationInfo(id=found.id, fitted_on=found.fitted_on, n=found.n)

    def check_model(self, wanted: str | None) -> None:
        """Raise `ServiceError` 404 when another judge is `wanted` than the one that is served."""
        if wanted not in (None, PROD, self.model, self.stands_for):
            raise ServiceError(404, "model_not_found", f"there is no such model: {self.model} is served", "model")


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
        """`serve` makes the service of a judge, and raises `ConfigError` for one that cannot keep the policy."""
        self._serve, self._others = serve, others
        self.prod = self.prepare(judge)
        self.canary = serve(others.canary) if others.canary else None

    def prepare(self, judge: Judge) -> Service:
        """The service that `judge` gives as `prod`. Raises `ConfigError` where it cannot keep the policy."""
        service = self._serve(judge)
        shadow = self._others.shadow
        return replace(service, judge=Shadowed(judge, shadow, service.meter)) if shadow else service

    def of(self, body: bytes) -> Service:
        """The service that answers a request of this `body`: the same again for the same body; the canary only while it can."""
        prod, canary = self.prod, self.canary
        if not body:
            return prod
        is_canary = canary is not None and canary.judge.fault is None and place(body) < self._others.share
        chosen = replace(canary, stands_for=prod.model) if canary and is_canary else prod
        prod.meter.role("canary" if is_canary else "prod")
        return chosen


def place(body: bytes) -> float:
    """Where a request of this `body` stands in [0, 1): spread evenly, and fixed."""
    return int.from_bytes(hashlib.sha256(body).digest()[:6], "big") / 2**48


async def _service(request: Request) -> Service:
    serving: Serving = request.app.state.serving
    return serving.of(await request.body())


def _serving(request: Request) -> Serving:
    serving: Serving = request.app.state.serving
    return serving


Served = Annotated[Service, Depends(_service)]
"""The service that answers this request, from its beginning to its end."""
AllServed = Annotated[Serving, Depends(_serving)]
"""All services of the app that a route belongs to."""
