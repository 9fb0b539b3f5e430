"""From grades to abilities, events and training targets: the one rule, its thresholds as arguments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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


def soft_target(label: AbilityLabel) -> tuple[float, ...]:
    """Probability of each binary verdict word: yes with the accuracy, no with the rest."""
    return (label.accuracy, 1.0 - label.accuracy)


def confidence(probabilities: Sequence[float], mode: LabelMode) -> float:
    """P(event) from the probabilities of the verdict words: that of the word for CAN."""
    return probabilities[list(VERDICT_WORDS[mode]).index(Verdict.CAN)]
