"""The ledger of a study: counts by hand, rates among the right questions, and what a gate would have let through."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from know_thyself.evaluation.evidence import Examined
from know_thyself.evaluation.ledger import changes, ledger_examples, ledger_facts
from tests.unit.test_evidence import examined

BEFORE = examined([5, 5, 5, 0, 3, 0], [0.9, 0.9, 0.2, 0.9, 0.1, 0.1])
AFTER = examined([5, 5, 4, 5, 5, 0], [0.9, 0.1, 0.9, 0.9, 0.9, 0.1])


def facts(before: Sequence[Examined] = BEFORE, after: Sequence[Examined] = AFTER) -> dict[str, object]:
    return ledger_facts(changes(before, after))


def test_every_question_has_moved_or_stayed() -> None:
    found = facts()
    kinds = ("questions", "kept", "lost", "learned", "still_unknown")
    assert [found[name] for name in kinds] == [6, 2, 1, 2, 1]
    assert found["kept_rate"] == pytest.approx(2 / 3)
    assert found["learned_rate"] == pytest.approx(2 / 3)
    assert found["flow"] == [[2, 1, 0], [1, 0, 0], [1, 0, 1]]


def test_hallucination_is_what_was_wrong_though_the_judge_said_can() -> None:
    found = facts()
    assert found["hallucination_before"] == pytest.approx(1 / 6)
    assert found["hallucination_after"] == pytest.approx((1 / 5) / 6)
    assert found["hallucination_after_low"] is not None


def test_only_what_was_examined_both_times_counts() -> None:
    assert len(changes(BEFORE, AFTER[2:])) == 4
    assert len(changes(BEFORE[:2], AFTER[4:])) == 0


def test_of_nothing_there_is_no_rate() -> None:
    found = facts([], [])
    assert found["questions"] == 0
    assert found["kept_rate"] is found["learned_rate"] is found["hallucination_before_low"] is None
    known = examined([5, 5], [0.9, 0.9])
    assert facts(known, known)["learned_rate"] is None


def test_the_examples_are_of_their_kind() -> None:
    shown = ledger_examples(changes(BEFORE, AFTER))
    assert [row["question"] for row in shown["learned"]] == ["3?", "4?"]
    assert [(row["question"], row["before"], row["after"]) for row in shown["lost"]] == [("2?", "5 of 5", "4 of 5")]
    assert shown["lost"][0]["verdict_before"] == "cannot"
