"""From a judgment to answers in the formats of decision models: probabilities stay as calibrated, and the threshold chooses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from know_thyself.wire import (
    ChoiceAnswer,
    ChoiceQuestion,
    DecisionRequest,
    NoulAnswer,
    PredicateAnswer,
    PredicateQuestion,
    RefusalAnswer,
    ScoreQuestion,
    SystemOneChoice,
    SystemOneRequest,
    ValueProbability,
)
from serve.policy import LabelMap


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """How likely an answer is right, whether the question passes, and how many tokens were read for that."""

    p_correct: float
    passes: bool
    num_tokens: int

    def chosen(self, mapped: LabelMap) -> str:
        """The label that the threshold chooses, which need not be the likeliest."""
        return mapped.can if self.passes else mapped.cannot

    def shares(self, mapped: LabelMap) -> dict[str, float]:
        """How likely each label is."""
        return {mapped.can: self.p_correct, mapped.cannot: 1 - self.p_correct, **dict.fromkeys(mapped.others, 0.0)}

    def confidence(self, mapped: LabelMap) -> float:
        """How far the likeliest label is above an even spread, of 1: (n p - 1) / (n - 1)."""
        number = len(mapped.labels)
        return (number * max(self.p_correct, 1 - self.p_correct) - 1) / (number - 1)


def systemone_answers(
    request: SystemOneRequest, maps: Sequence[LabelMap], judged: Forecast
) -> dict[str, NoulAnswer | SystemOneChoice]:
    """The answer to each question of `request`, which come to `maps`."""
    answers: dict[str, NoulAnswer | SystemOneChoice] = {}
    for (name, question), mapped in zip(request.questions.items(), maps, strict=True):
        if question.labels is None:
            answers[name] = NoulAnswer(noul=judged.p_correct)
        else:
            shares = judged.shares(mapped)
            answers[name] = SystemOneChoice(
                choice=judged.chosen(mapped),
                probabilities={label: shares[label] for label in question.labels},
                confidence=judged.confidence(mapped),
            )
    return answers


def decision_answers(
    request: DecisionRequest, maps: Sequence[LabelMap | None], judged: Forecast | None
) -> list[PredicateAnswer | ChoiceAnswer | RefusalAnswer]:
    """The answer to each question of `request`, a refusal to those that come to no map; all do where nothing was `judged`."""
    return [
        RefusalAnswer(name=question.name) if mapped is None or judged is None else _decided(question, mapped, judged)
        for question, mapped in zip(request.questions, maps, strict=True)
    ]


def _decided(
    question: PredicateQuestion | ChoiceQuestion | ScoreQuestion, mapped: LabelMap, judged: Forecast
) -> PredicateAnswer | ChoiceAnswer:
    if not isinstance(question, ChoiceQuestion):
        return PredicateAnswer(name=question.name, probability=judged.p_correct)
    shares = judged.shares(mapped)
    return ChoiceAnswer(
        name=question.name,
        choice=judged.chosen(mapped),
        probabilities=[ValueProbability(value=label, probability=shares[str(label)]) for label in question.labels],
        confidence=judged.confidence(mapped),
    )
