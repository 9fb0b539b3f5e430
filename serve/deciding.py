"""From an opinion to a decision: which bar holds, what it comes to with this judge, and whether a question passes it.

A `threshold` is held against p_correct, and so means nothing to a judge that is not calibrated. A `target_accuracy` is looked
up among the promises of the judge's card, which are on p_correct, or on the confidence as read where no map rises with it: of a
judge of three verdicts, or of one that is not calibrated. That confidence decides, but is no probability of being right, so it
is never shown as one. Where no bar can be applied, nothing passes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from know_thyself.asking import Opinion
from know_thyself.errors import ConfigError
from know_thyself.judge import JudgeCard
from know_thyself.wire import Bar, Decision, ThresholdSource
from serve.auth import Key
from serve.policy import Policy

Scale = Literal["p_correct", "confidence"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """What passes `threshold`, on the scale `on`, is right with probability `accuracy` or more, as the judge's run showed."""

    accuracy: float
    threshold: float
    on: Scale


def promises(card: JudgeCard) -> list[Promise]:
    """What the judge of `card` can promise, the least first; of a target that was not reachable, the best that was."""
    found = {}
    for row in card.thresholds:
        accuracy = row["target_accuracy"] if row["reachable"] else row["best_accuracy"]
        if accuracy is not None and row["threshold"] is not None:
            found[accuracy] = Promise(accuracy=accuracy, threshold=row["threshold"], on=row["on"])
    return [found[accuracy] for accuracy in sorted(found)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """The line that a question must reach: `value` on the scale `on`; one without a value is reached by nothing."""

    value: float | None
    on: Scale
    source: ThresholdSource

    def is_reached(self, opinion: Opinion) -> bool:
        """Whether the question that `opinion` is of passes."""
        held = opinion.p_correct if self.on == "p_correct" else opinion.confidence
        return self.value is not None and held is not None and held >= self.value

    @property
    def shown(self) -> float | None:
        """The threshold as a client sees it, beside p_correct: None where it is on another scale."""
        return self.value if self.on == "p_correct" else None


NOTHING = Line(value=None, on="p_correct", source="none")
"""The line that nothing reaches."""


def draw_line(bar: Bar, card: JudgeCard, source: ThresholdSource) -> Line:
    """What `bar` comes to with the judge of `card`. Raises `ConfigError` where it cannot be met."""
    if bar.target_accuracy is not None:
        promise = _promise(bar.target_accuracy, promises(card))
        return Line(value=promise.threshold, on=promise.on, source=source)
    if card.calibration is None:
        raise ConfigError(
            f"threshold={bar.threshold}: this judge is not calibrated, so that there is no p_correct to hold it against: "
            "calibrate it on questions of its run, or ask for a target_accuracy that it can promise"
        )
    return Line(value=bar.threshold, on="p_correct", source=source)


def _promise(target: float, promised: Sequence[Promise]) -> Promise:
    """The least of `promised` that keeps `target`. Raises `ConfigError` that names what is reachable."""
    found = next((promise for promise in promised if promise.accuracy >= target), None)
    if found is None:
        reachable = ", ".join(f"{promise.accuracy:g}" for promise in promised) or "none"
        raise ConfigError(f"target_accuracy={target:g} is not reachable with this judge; reachable: {reachable}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Decider:
    """The lines that a policy and the callers' keys draw for one judge, and what becomes of questions below."""

    policy: Policy
    card: JudgeCard

    def line(self, route: str, key: Key | None, request: Bar) -> Line:
        """The line for a request: its own, else its key's, else its route's, else the default.

        Raises `ConfigError` where the request asks for what this judge cannot do.
        """
        if request.is_set:
            return draw_line(request, self.card, "request")
        if key is not None and key.is_set:
            return self._standing(key, "key")
        if route in self.policy.routes:
            return self._standing(self.policy.routes[route], "route")
        return self._standing(self.policy.default, "default")

    def decide(self, opinion: Opinion, line: Line) -> Decision:
        """What becomes of the question that `opinion` is of."""
        return "answer" if line.is_reached(opinion) else self.policy.below

    def check(self, keys: Sequence[Key]) -> None:
        """Raise `ConfigError` where the policy or a key asks for an accuracy that the judge cannot promise."""
        named = {"default": self.policy.default, **self.policy.routes, **{f"key {key.name}": key for key in keys}}
        for name, bar in named.items():
            try:
                if bar.is_set:
                    self._standing(bar, "none")
            except ConfigError as error:
                raise ConfigError(f"{name}: {error}") from error

    def _standing(self, bar: Bar, source: ThresholdSource) -> Line:
        """The line of a bar that was set without this judge in mind: nothing passes where it means nothing to it."""
        if bar.threshold is not None and self.card.calibration is None:
            return NOTHING
        return draw_line(bar, self.card, source)
