"""What an epoch trains on: the wrong, all, or all by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import pyarrow as pa
import pytest

from know_thyself.evaluation.calibration import ConfidenceMap
from know_thyself.evaluation.evidence import Examined, Records, Trials, examples_worth_reading, fit_calibration, scores_of
from know_thyself.evaluation.selection import REPLAY, select_examples
from know_thyself.labeling import AbilityRule, TargetRule, class_odds
from know_thyself.types import LabelMode, Question, Verdict


def examined(*cases: tuple[int, float | None], ungraded: tuple[int, ...] = ()) -> list[Examined]:
    """Questions q0, q1, ... of five trials each, from (right trials, P(yes)); None is a prompt too long to judge."""
    ids = [f"q{i}" for i in range(len(cases))]
    questions = [Question(id=name, text=f"{name}?", answers=("a",), group=name) for name in ids]
    grades = [[None if i in ungraded and t == 4 else t < k for t in range(5)] for i, (k, _) in enumerate(cases)]
    claims = [None if sure is None else [sure, 1 - sure] for _, sure in cases]
    return judged(questions, grades, claims, LabelMode.BINARY)


def of_three(*cases: tuple[int, list[float]]) -> list[Examined]:
    """The same from (right trials, P(yes, uncertain, no))."""
    questions = [Question(id=f"q{i}", text=f"q{i}?", answers=("a",), group=f"q{i}") for i in range(len(cases))]
    grades: list[list[bool | None]] = [[t < k for t in range(5)] for k, _ in cases]
    return judged(questions, grades, [claim for _, claim in cases], LabelMode.UNCERTAINTY)


def judged(
    questions: list[Question], grades: list[list[bool | None]], claims: Sequence[list[float] | None], mode: LabelMode
) -> list[Examined]:
    ids = [question.id for question in questions]
    graded = pa.table({"id": ids, "correct": grades})
    read = pa.table({"id": ids[::-1], "probabilities": claims[::-1], "mass": [0.9] * len(ids)})
    return list(Records(questions, graded, read, AbilityRule(), mode))


def targets_of(cases: list[Examined], mode: LabelMode, kind: Literal["soft", "hard"] = "soft") -> TargetRule:
    return TargetRule.fit([case.label for case in cases], mode, kind, AbilityRule())


def chosen(cases: list[Examined], select: str, targets: TargetRule | None = None) -> dict[str, float]:
    found = select_examples(cases, select, targets or targets_of(cases, LabelMode.BINARY))  # type: ignore[arg-type]  # parametrised
    return {example.question_id: example.weight for example in found}


RIGHT_AND_WRONG = [(5, 0.9), (0, 0.9), (5, 0.2), (0, 0.1), (3, 0.4), (3, 0.6)]


def test_wrong_trains_on_the_misjudged_alone_and_all_on_everything() -> None:
    cases = examined(*RIGHT_AND_WRONG)
    assert chosen(cases, "wrong") == {"q1": 1.0, "q2": 1.0, "q4": 1.0}
    assert chosen(cases, "all") == dict.fromkeys((f"q{i}" for i in range(6)), 1.0)


def test_weights_follow_the_avoidable_loss_and_keep_their_mean() -> None:
    weights = chosen(examined(*RIGHT_AND_WRONG), "weighted")
    assert sum(weights.values()) / len(weights) == pytest.approx(1.0)
    assert sorted(weights, key=weights.__getitem__)[-2:] == ["q2", "q1"]
    assert weights["q1"] == max(weights.values())
    assert weights["q5"] == pytest.approx(REPLAY, abs=1e-6)  # its claim is its soft target: nothing to learn


def test_weights_stay_finite_for_a_judge_that_is_certain() -> None:
    assert set(chosen(examined((5, 1.0), (0, 0.0)), "weighted").values()) == {1.0}
    assert max(chosen(examined((0, 1.0), (5, 1.0)), "weighted").values()) < 2


def test_nothing_wrong_leaves_nothing_to_train_on() -> None:
    cases = examined((5, 0.9), (0, 0.1))
    assert select_examples(cases, "wrong", targets_of(cases, LabelMode.BINARY)) == []
    assert select_examples([], "weighted", targets_of([], LabelMode.UNCERTAINTY)) == []


def test_targets_are_soft() -> None:
    cases = examined((3, 0.4))
    (example,) = select_examples(cases, "all", targets_of(cases, LabelMode.BINARY))
    assert example.target == pytest.approx((0.6, 0.4))


CAN, UNSURE, CANNOT = [0.8, 0.15, 0.05], [0.2, 0.6, 0.2], [0.05, 0.15, 0.8]
THREE = [(5, CAN), (5, UNSURE), (3, UNSURE), (3, CAN), (0, CANNOT), (0, CAN)]


def test_of_three_verdicts_wrong_is_any_but_the_class() -> None:
    cases = of_three(*THREE)
    for kind in ("soft", "hard"):
        targets = targets_of(cases, LabelMode.UNCERTAINTY, kind)
        assert list(chosen(cases, "wrong", targets)) == ["q1", "q3", "q5"]
        assert list(chosen(cases, "all", targets)) == [f"q{i}" for i in range(6)]


def test_hard_targets_teach_the_class_and_soft_ones_its_odds() -> None:
    cases = of_three(*THREE)
    hard = select_examples(cases, "all", targets_of(cases, LabelMode.UNCERTAINTY, "hard"))
    assert [example.target for example in hard] == [(1, 0, 0)] * 2 + [(0, 1, 0)] * 2 + [(0, 0, 1)] * 2
    targets = targets_of(cases, LabelMode.UNCERTAINTY)
    assert targets.prior is not None
    soft = select_examples(cases, "all", targets)
    assert [example.target for example in soft] == [class_odds(targets.prior, AbilityRule(), k, 5) for k, _ in THREE]
    binary = examined((3, 0.4), (2, 0.4))
    two = select_examples(binary, "all", targets_of(binary, LabelMode.BINARY, "hard"))
    assert [example.target for example in two] == [(1.0, 0.0), (0.0, 1.0)]


def test_of_three_verdicts_the_most_misled_weigh_most() -> None:
    cases = of_three(*THREE)
    weights = chosen(cases, "weighted", targets_of(cases, LabelMode.UNCERTAINTY, "hard"))
    assert sum(weights.values()) / len(weights) == pytest.approx(1.0)
    assert max(weights, key=weights.__getitem__) == "q5"
    assert weights["q0"] == weights["q4"] == min(weights.values())


def test_scores_of_three_verdicts_hold_classes_and_forecasts() -> None:
    cases = of_three(*THREE)
    class_map = fit_calibration(cases, LabelMode.UNCERTAINTY)
    assert class_map is not None
    scores = scores_of(cases, LabelMode.UNCERTAINTY, class_map)
    assert scores.classes == ("can", "uncertain", "cannot")
    assert scores.ability.tolist() == [0, 0, 1, 1, 2, 2]
    assert scores.verdict.tolist() == [0, 1, 1, 0, 2, 0]
    assert scores.event.tolist() == [True, True, False, False, False, False]
    assert scores.confidence.tolist() == [claim[0] for _, claim in THREE]
    assert scores.forecast is not None
    assert scores.forecast.tolist() == class_map.forecast(scores.probabilities).tolist()
    assert scores_of(cases, LabelMode.UNCERTAINTY, None).forecast is None
    assert fit_calibration([], LabelMode.UNCERTAINTY) is None
    assert len(scores_of([], LabelMode.UNCERTAINTY, class_map)) == 0


def test_two_verdicts_are_a_forecast_as_they_are_until_they_are_calibrated() -> None:
    cases = examined(*RIGHT_AND_WRONG)
    fitted = fit_calibration(cases, LabelMode.BINARY)
    assert isinstance(fitted, ConfidenceMap)
    mapped = scores_of(cases, LabelMode.BINARY, fitted)
    assert mapped.forecast is not None
    assert mapped.forecast.tolist() == fitted.expected(mapped.confidence).tolist()
    scores = scores_of(cases, LabelMode.BINARY, None)
    assert scores.forecast is not None
    assert scores.forecast.tolist() == scores.confidence.tolist()
    assert scores.owed[:, 0].tolist() == scores.accuracy.tolist()


def test_the_ungraded_and_the_unread_are_left_out_and_the_rest_keeps_its_order() -> None:
    cases = examined((5, 0.9), (5, 0.8), (0, None), (0, 0.3), ungraded=(1,))
    assert [case.question.id for case in cases] == ["q0", "q3"]
    assert [case.judgment.verdict for case in cases] == [Verdict.CAN, Verdict.CANNOT]
    scores = scores_of(cases, LabelMode.BINARY, None)
    assert scores.confidence.tolist() == [0.9, 0.3]
    assert scores.verdict.tolist() == scores.ability.tolist() == [0, 1]
    assert scores.num_correct.tolist() == [5, 0]


def test_examples_show_the_most_misled_first() -> None:
    cases = examined((0, 0.2), (0, 0.9), (5, 0.8), (5, 0.1), (3, 0.5))
    asked: list[str] = []

    def trials_of(ids: Sequence[str]) -> Trials:
        asked.extend(ids)
        return {"q1": [{"text": "wrong"}]}

    shown = examples_worth_reading(cases, trials_of)
    assert sorted(asked) == ["q0", "q1", "q2", "q3"], "trials of others are not read"
    assert [row["question"] for row in shown["confident and wrong"]] == ["q1?", "q0?"]
    assert [row["question"] for row in shown["doubtful and right"]] == ["q3?", "q2?"]
    assert [row["trials"] for row in shown["confident and wrong"]] == [["wrong"], []]
