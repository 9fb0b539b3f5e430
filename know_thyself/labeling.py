"""From grades to abilities, events and training targets: the one rule, its thresholds as arguments."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal, Self

import numpy as np

from know_thyself.evaluation.ceiling import BetaBinomial, fit_beta_binomial
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import Ability, AbilityLabel, LabelMode, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class AbilityRule:
    """Accuracy from which a question is CAN, and from which it is UNCERTAIN; below, it is CANNOT."""

    can_at: float = 1.0
    uncertain_at: float = 0.5

    def __str__(self) -> str:
        return f"can >= {self.can_at:g}, uncertain >= {self.uncertain_at:g}"

    def ability(self, num_correct: int, num_graded: int) -> Ability:
        """The ability that `num_correct` right trials of `num_graded` show. Raises `ValueError` without a trial."""
        if num_graded < 1:
            raise ValueError("no graded trial: an ability cannot be told")
        accuracy = num_correct / num_graded
        if accuracy >= self.can_at:
            return Ability.CAN
        return Ability.UNCERTAIN if accuracy >= self.uncertain_at else Ability.CANNOT

    def event(self, mode: LabelMode) -> str:
        """What a judge's probability is about, as `judge.json` names it."""
        if mode is LabelMode.BINARY:
            return f"k/n >= {self.uncertain_at:g}"
        return "k/n == 1" if self.can_at == 1.0 else f"k/n >= {self.can_at:g}"


def label(question_id: str, grades: Sequence[bool | None], rule: AbilityRule) -> AbilityLabel | None:
    """The label of a question, or None when any trial could not be graded: k of fewer than n is never a label."""
    right = [grade for grade in grades if grade is not None]
    if len(right) < len(grades) or not right:
        return None
    num_correct = sum(right)
    ability = rule.ability(num_correct, len(right))
    return AbilityLabel(
        question_id=question_id, ability=ability, num_correct=num_correct, num_graded=len(right), rule=str(rule)
    )


def expected_verdict(ability: Ability, mode: LabelMode) -> Verdict:
    """The verdict that a judge owes to a question of `ability`: in binary mode, uncertain counts as can."""
    if ability is Ability.CANNOT:
        return Verdict.CANNOT
    if ability is Ability.UNCERTAIN and mode is LabelMode.UNCERTAINTY:
        return Verdict.UNCERTAIN
    return Verdict.CAN


def hard_target(ability: Ability, mode: LabelMode) -> tuple[float, ...]:
    """Probability of each verdict word of `mode`: all of it on the verdict owed to `ability`."""
    owed = expected_verdict(ability, mode)
    return tuple(float(verdict is owed) for verdict in VERDICT_WORDS[mode])


def soft_target(label: AbilityLabel) -> tuple[float, ...]:
    """Probability of each binary verdict word: yes with the accuracy, no with the rest."""
    return (label.accuracy, 1.0 - label.accuracy)


def owed_shares(label: AbilityLabel, mode: LabelMode) -> tuple[float, ...]:
    """What a judge's probabilities of the verdict words are measured against: of two k/n and the rest, of three the class."""
    return soft_target(label) if mode is LabelMode.BINARY else hard_target(label.ability, mode)


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetRule:
    """What an example teaches: the probability that each verdict word should have, given the counts of its question.

    `hard`: the class, certain. `soft`, of two verdicts: k/n and the rest; of three: how likely each class is if the question
    were tried n times more, when accuracies are spread as `prior`. So 3 of 5 right teaches less of *uncertain* than 30 of 50.
    """

    mode: LabelMode
    kind: Literal["soft", "hard"]
    rule: AbilityRule
    prior: BetaBinomial | None = None

    @classmethod
    def fit(cls, labels: Iterable[AbilityLabel], mode: LabelMode, kind: Literal["soft", "hard"], rule: AbilityRule) -> Self:
        """The rule whose prior, where it needs one, is fitted on `labels`: those of the training questions."""
        needed = mode is LabelMode.UNCERTAINTY and kind == "soft"
        pairs = ((label.num_correct, label.num_graded) for label in (labels if needed else ()))
        counts = np.fromiter(pairs, dtype=np.dtype((np.int64, 2)))
        return cls(mode=mode, kind=kind, rule=rule, prior=fit_beta_binomial(*counts.T) if len(counts) else None)

    def target(self, label: AbilityLabel) -> tuple[float, ...]:
        """The target of a question, in the order of the mode's words; sums to 1. Raises `ValueError` without a needed prior."""
        if self.kind == "hard":
            return hard_target(label.ability, self.mode)
        if self.mode is LabelMode.BINARY:
            return soft_target(label)
        if self.prior is None:
            raise ValueError("soft targets of three verdicts need a prior: fit one on the training questions")
        return class_odds(self.prior, self.rule, label.num_correct, label.num_graded)


@cache
def class_odds(prior: BetaBinomial, rule: AbilityRule, num_correct: int, num_graded: int) -> tuple[float, ...]:
    """P(class | k, n): the class that as many new trials would show, for each verdict of three, in their order; sums to 1."""
    shares = prior.given(num_correct, num_graded).shares(num_graded)
    shown = [expected_verdict(rule.ability(k, num_graded), LabelMode.UNCERTAINTY) for k in range(num_graded + 1)]
    return tuple(
        float(sum(share for share, seen in zip(shares, shown, strict=True) if seen is verdict))
        for verdict in VERDICT_WORDS[LabelMode.UNCERTAINTY]
    )


def confidence(probabilities: Sequence[float], mode: LabelMode) -> float:
    """P(event) from the probabilities of the verdict words: that of the word for CAN."""
    return probabilities[list(VERDICT_WORDS[mode]).index(Verdict.CAN)]
