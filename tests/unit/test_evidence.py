"""Records of questions, labels and judgments; and what full fine-tuning is held to: the same judgments, the labels before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa
import pytest

from know_thyself.evaluation import evidence
from know_thyself.evaluation.evidence import UNGRADED, UNREAD, Examined, Records, against_frozen, batches, scores_of
from know_thyself.evaluation.selection import select_examples
from know_thyself.labeling import AbilityRule, TargetRule, label
from know_thyself.types import Judgment, LabelMode, Question, Verdict

TRIALS = 5


def examined(right: Sequence[int], confidence: Sequence[float]) -> list[Examined]:
    """One question per entry, in groups of its own: `right` of five trials right, judged with `confidence`."""
    found = []
    for number, (k, sure) in enumerate(zip(right, confidence, strict=True)):
        known = label(f"q{number}", [i < k for i in range(TRIALS)], AbilityRule())
        assert known is not None
        judgment = Judgment(
            question_id=f"q{number}",
            verdict=Verdict.CAN if sure > 0.5 else Verdict.CANNOT,
            confidence=sure,
            mass=1.0,
            probabilities=(sure, 1 - sure),
        )
        question = Question(id=f"q{number}", text=f"{number}?", answers=("x",), group=f"g{number}")
        found.append(Examined(question=question, label=known, judgment=judgment))
    return found


def test_a_model_that_unlearned_what_it_is_judged_on_is_told_so() -> None:
    confidence = [0.9, 0.8, 0.3, 0.1]
    before = examined([0, 5, 5, 0], confidence)
    after = examined([5, 5, 0, 0], confidence)
    facts = against_frozen(after, before, LabelMode.BINARY, seed=0)
    assert facts["qa_change"] == 0.0
    assert facts["auroc_frozen"] == pytest.approx(0.5)
    assert facts["judgment_accuracy_frozen"] == 0.5
    assert facts["qa_change_low"] < 0.0 < facts["qa_change_high"]


def test_the_change_in_answering_is_paired_by_question() -> None:
    confidence = [0.9, 0.8, 0.3, 0.1]
    before, after = examined([5, 5, 5, 5], confidence), examined([4, 4, 4, 4], confidence)
    facts = against_frozen(after[:3], before[1:], LabelMode.BINARY, seed=0)
    assert facts["qa_change"] == pytest.approx(-0.2)
    assert facts["qa_change_low"] == pytest.approx(-0.2)
    assert against_frozen(after[:1], before[1:], LabelMode.BINARY, seed=0)["qa_change"] is None


def test_what_cannot_be_told_of_the_change_has_its_reason() -> None:
    before, after = examined([5, 5], [0.9, 0.8]), examined([4, 4], [0.9, 0.8])
    facts = against_frozen(after[:1], before[1:], LabelMode.BINARY, seed=0)
    assert facts["undefined"]["qa_change"] == facts["undefined"]["qa_change_low"] == "no question was measured twice"
    assert facts["undefined"]["auroc_frozen"] == "all questions are of one class"
    facts = against_frozen(after[:1], before[:1], LabelMode.BINARY, seed=0)
    assert facts["qa_change"] == pytest.approx(-0.2)
    assert facts["undefined"]["qa_change_low"] == "too few groups to resample"
    assert {name for name, value in facts.items() if value is None} == set(facts["undefined"])


def test_what_is_left_out_is_counted_once_and_by_its_reason() -> None:
    ids = ["whole", "ungraded", "unread", "neither"]
    questions = [Question(id=name, text=f"{name}?", answers=("x",), group=name) for name in ids]
    graded = pa.table({"id": ids, "correct": [[True, False], [True, None], [True, True], [None, None]]})
    read = [[0.5, 0.5], [0.5, 0.5], None, None]
    judged = pa.table({"id": ids, "probabilities": read, "mass": [1.0, 1.0, None, None]})
    found = Records(questions, graded, judged, AbilityRule(), LabelMode.BINARY)
    assert [e.question.id for e in found] == ["whole"]
    assert found.left_out() == {UNREAD: 2, UNGRADED: 1}
    assert replace(found, questions=questions[:1]).left_out() == {}


@pytest.mark.parametrize("batch", [1, 3, 100])
def test_records_are_the_same_however_many_are_made_at_a_time(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "BATCH", batch)
    numbers = range(8)
    questions = [Question(id=f"q{n}", text=f"{n}?", answers=("x",), group=f"a group of its own, {n}") for n in numbers]
    graded = pa.table({"id": [f"q{n}" for n in reversed(numbers)], "correct": [[n % 2 == 0] for n in reversed(numbers)]})
    shares = [[n / 8, 1 - n / 8] for n in numbers]
    judged = pa.table({"id": [f"q{n}" for n in numbers], "probabilities": shares, "mass": [1.0] * 8, "trials": [[]] * 8})
    records = Records(questions, graded, judged, AbilityRule(), LabelMode.BINARY)
    scores = scores_of(records, LabelMode.BINARY, None)
    assert scores.confidence.tolist() == [n / 8 for n in numbers]
    assert scores.num_correct.tolist() == [1, 0] * 4
    assert scores.group.tolist() == [question.group for question in questions]
    assert [e.question for e in records] == questions, "they are there a second time"
    assert [len(some) for some in batches(records)] == [min(batch, 8 - n) for n in range(0, 8, batch)]
    targets = TargetRule.fit((e.label for e in records), LabelMode.BINARY, "soft", AbilityRule())
    weights = [example.weight for example in select_examples(records, "weighted", targets)]
    assert len(weights) == 8
    assert sum(weights) == pytest.approx(8)
    assert weights[0] == max(weights), "it is sure of it, and wrong"
