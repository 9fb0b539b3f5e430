"""What the routes of one app share: a judge with all that speaks of it, and what stands behind every judge of the app."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated

from fastapi import Depends, Request

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.digests import SHORT
from know_thyself.wire import CalibrationInfo, Decision
from serve.auth import Key
from serve.deciding import Decider
from serve.errors import ServiceError
from serve.ids import Judged, Signer, new_secret
from serve.journal import Journal
from serve.judging import Judge, consult
from serve.limits import Limiter, LocalStore, RateStore
from serve.metrics import Meter

NOBODY = "-"
"""Whose ids are those given out where there are no keys; no key has this name."""
PROD = "kt/prod"
"""The name by which clients ask for whatever judge serves."""

Outcome = tuple[Opinion, Decision] | Refusal
"""What became of one input: an opinion and what was decided on it, or why there is none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backing:
    """What stands behind an app longer than a request, and longer than a judge: what counts, signs its ids, writes down, and
    counts who asked how much.

    By itself, all of it is this process's own, and nothing is written down.
    """

    meter: Meter = field(default_factory=Meter)
    signer: Signer = field(default_factory=lambda: Signer(new_secret()))
    journal: Journal | None = None
    store: RateStore = field(default_factory=LocalStore)


@dataclass(frozen=True, kw_only=True)
class Service:
    """A judge that is asked, what decides on what it says, what holds keys to their limits, and what stands behind all that.

    `created` is since when, in seconds since 1970, this app has been there. Of a canary, `stands_for` is the name of the model
    whose requests it shares.
    """

    judge: Judge
    decider: Decider
    limiter: Limiter
    backing: Backing
    created: int
    stands_for: str | None = None

    @property
    def model(self) -> str:
        """The name of the judge for clients: that of the experiment it comes from, never a path."""
        return f"kt/{self.judge.card.experiment}"

    @cached_property
    def judge_digest(self) -> str:
        """Which judge it is, to the bit."""
        return self.judge.card.digest[:SHORT]

    @cached_property
    def calibration(self) -> CalibrationInfo | None:
        """What p_correct rests on."""
        found = self.judge.card.calibration
        return None if found is None else CalibrationInfo(id=found.id, fitted_on=found.fitted_on, n=found.n)

    @property
    def meter(self) -> Meter:
        """What counts."""
        return self.backing.meter

    def check_model(self, wanted: str | None) -> None:
        """Raise `ServiceError` 404 when another judge is `wanted` than the one that is served."""
        if wanted not in (None, PROD, self.model, self.stands_for):
            raise ServiceError(404, "model_not_found", f"there is no such model: {self.model} is served", "model")

    async def consult(self, key: Key | None, questions: Sequence[Asked | Refusal]) -> list[Opinion | Refusal]:
        """What the judge says of each of `questions`, in order among the refusals, if `key` may ask so many.

        Raises `ServiceError` 429 where it may not, which costs it nothing, and what `Judge.judge` raises.
        """
        if number := sum(isinstance(one, Asked) for one in questions):
            self.judge.check_room(number)  # before they count: who is turned away has asked nothing
            await self.limiter.take(key, "questions", number)
        return await consult(self.judge, questions)

    def record(self, key: Key | None, outcomes: Sequence[Outcome]) -> str:
        """Count and write down what became of the inputs of one request; the id of their judgment, for the holder of `key`."""
        at, given = int(time.time()), [one for one in outcomes if not isinstance(one, Refusal)]
        for opinion, decision in given:
            self.meter.judgment(opinion, decision)
        for one in outcomes:
            if isinstance(one, Refusal):
                self.meter.refusal(one.fault)
        if self.backing.journal is not None:
            self.backing.journal.note_scores([_row(at, self.judge_digest, *one) for one in given])
        scores = tuple(None if isinstance(one, Refusal) else _score(one[0]) for one in outcomes)
        told = Judged(at=at, judge=self.judge_digest, is_calibrated=self.calibration is not None, scores=scores)
        return self.backing.signer.sign(tenant_of(key), told)


def _row(at: int, judge: str, opinion: Opinion, decision: Decision) -> tuple[int, str, float, float | None, str, str]:
    """A row of the journal's table of scores."""
    return at, judge, opinion.confidence, opinion.p_correct, opinion.verdict.value, decision


def _score(opinion: Opinion) -> float:
    return opinion.confidence if opinion.p_correct is None else opinion.p_correct


def tenant_of(key: Key | None) -> str:
    """Whose judgments those of `key` are."""
    return NOBODY if key is None else key.name


async def _backing(request: Request) -> Backing:
    backing: Backing = request.app.state.backing
    return backing


Backed = Annotated[Backing, Depends(_backing)]
"""What stands behind the app that a route belongs to, whichever judge serves."""
