"""What an epoch trains on: the wrong, all, or all by weight."""

from __future__ import annotations

import pyarrow as pa
import pytest

from know_thyself.evaluation.evidence import Examined, collect, examples_worth_reading, scores_of
from know_thyself.evaluation.selection import REPLAY, select_examples
from know_thyself.labeling import AbilityRule
from know_thyself.types import LabelMode, Question, Verdict


def examined(*cases: tuple[int, float | None], ungraded: tuple[int, ...] = ()) -> list[Examined]:
    """Questions q0, q1, ... of five trials each, from (right trials, P(yes)); None is a prompt too long to judge."""
    ids = [f"q{i}" for i in range(len(cases))]
    questions = [Question(id=name, text=f"{name}?", answers=("a",), group=name) for name in ids]
    grades = [[None if i in ungraded and t == 4 else t < k for t in range(5)] for i, (k, _) in enumerate(cases)]
    claims = [None if sure is None else [sure, 1 - sure] for _, sure in cases]
    graded = pa.table({"id": ids, "correct": grades})
    judged = pa.table({"id": ids[::-1], "probabilities": claims[::-1], "mass": [0.9] * len(ids)})
    return collect(questions, graded, judged, AbilityRule(), LabelMode.BINARY)


def chosen(cases: list[Examined], select: str) -> dict[str, float]:
    found = select_examples(cases, select, LabelMode.BINARY)  # type: ignore[arg-type]  # parametrised
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
    assert select_examples(examined((5, 0.9), (0, 0.1)), "wrong", LabelMode.BINARY) == []


def test_targets_are_soft() -> None:
    (example,) = select_examples(examined((3, 0.4)), "all", LabelMode.BINARY)
    assert example.target == pytest.approx((0.6, 0.4))


def test_the_ungraded_and_the_unread_are_left_out_and_the_rest_keeps_its_order() -> None:
    cases = examined((5, 0.9), (5, 0.8), (0, None), (0, 0.3), ungraded=(1,))
    assert [case.question.id for case in cases] == ["q0", "q3"]
    assert [case.judgment.verdict for case in cases] == [Verdict.CAN, Verdict.CANNOT]
    scores = scores_of(cases, LabelMode.BINARY)
    assert scores.confidence.tolist() == [0.9, 0.3]
    assert scores.says_can.tolist() == scores.is_can.tolist() == [True, False]
    assert scores.num_correct.tolist() == [5, 0]


def test_examples_show_the_most_misled_first() -> None:
    cases = examined((0, 0.2), (0, 0.9), (5, 0.8), (5, 0.1), (3, 0.5))
    trials = pa.table({"id": ["q1", "q0"], "trials": [[{"text": "wrong"}], None]})
    shown = examples_worth_reading(cases, trials)
    assert [row["question"] for row in shown["confident and wrong"]] == ["q1?", "q0?"]
    assert [row["question"] for row in shown["doubtful and right"]] == ["q3?", "q2?"]
    assert [row["trials"] for row in shown["confident and wrong"]] == [["wrong"], []]
