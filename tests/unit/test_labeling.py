"""The one rule from grades to abilities, and its way into targets and out of verdicts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.labeling import AbilityRule, confidence, expected_verdict, label, soft_target
from know_thyself.prompts import VERDICT_WORDS, read_verdict
from know_thyself.types import Ability, AbilityLabel, LabelMode, Verdict

RULE = AbilityRule()
LENIENT = AbilityRule(can_at=0.8, uncertain_at=0.2)


def labelled(num_correct: int, num_graded: int, rule: AbilityRule = RULE) -> AbilityLabel:
    found = label("q", [i < num_correct for i in range(num_graded)], rule)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("num_correct", "num_graded", "rule", "ability"),
    [
        (5, 5, RULE, Ability.CAN),
        (4, 5, RULE, Ability.UNCERTAIN),
        (3, 5, RULE, Ability.UNCERTAIN),
        (2, 5, RULE, Ability.CANNOT),
        (0, 5, RULE, Ability.CANNOT),
        (1, 2, RULE, Ability.UNCERTAIN),
        (1, 1, RULE, Ability.CAN),
        (127, 128, RULE, Ability.UNCERTAIN),
        (4, 5, LENIENT, Ability.CAN),
        (1, 5, LENIENT, Ability.UNCERTAIN),
        (0, 5, LENIENT, Ability.CANNOT),
        (7, 10, AbilityRule(can_at=0.7), Ability.CAN),
        (1, 3, AbilityRule(uncertain_at=1 / 3), Ability.UNCERTAIN),
    ],
)
def test_the_rule(num_correct: int, num_graded: int, rule: AbilityRule, ability: Ability) -> None:
    found = labelled(num_correct, num_graded, rule)
    assert found.ability is ability
    assert (found.num_correct, found.num_graded, found.rule) == (num_correct, num_graded, str(rule))


@pytest.mark.parametrize("grades", [[], [None], [True, True, None, True, True], [None, False]])
def test_fewer_grades_than_trials_are_no_label(grades: list[bool | None]) -> None:
    assert label("q", grades, RULE) is None


def test_no_trial_is_no_ability() -> None:
    with pytest.raises(ValueError, match="no graded trial"):
        RULE.ability(0, 0)


@pytest.mark.parametrize(
    ("ability", "binary"), [(Ability.CAN, Verdict.CAN), (Ability.UNCERTAIN, Verdict.CAN), (Ability.CANNOT, Verdict.CANNOT)]
)
def test_the_verdict_owed_to_each_ability(ability: Ability, binary: Verdict) -> None:
    assert expected_verdict(ability, LabelMode.BINARY) is binary
    assert expected_verdict(ability, LabelMode.UNCERTAINTY).value == ability.value


@pytest.mark.parametrize("mode", LabelMode)
@pytest.mark.parametrize("ability", Ability)
def test_the_target_of_an_ability_reads_back_as_the_verdict_owed(ability: Ability, mode: LabelMode) -> None:
    owed = expected_verdict(ability, mode)
    target = [float(verdict is owed) for verdict in VERDICT_WORDS[mode]]
    assert read_verdict(target, mode) is owed
    assert confidence(target, mode) == float(owed is Verdict.CAN)


@given(num_graded=st.integers(1, 128), data=st.data())
def test_a_soft_target_reads_back_as_the_verdict_owed_but_for_the_tie(num_graded: int, data: st.DataObject) -> None:
    found = labelled(data.draw(st.integers(0, num_graded)), num_graded)
    target = soft_target(found)
    assert sum(target) == pytest.approx(1.0)
    assert confidence(target, LabelMode.BINARY) == found.accuracy
    if found.accuracy != 0.5:
        assert read_verdict(target, LabelMode.BINARY) is expected_verdict(found.ability, LabelMode.BINARY)


@pytest.mark.parametrize(
    ("rule", "mode", "event"),
    [
        (RULE, LabelMode.BINARY, "k/n >= 0.5"),
        (RULE, LabelMode.UNCERTAINTY, "k/n == 1"),
        (LENIENT, LabelMode.BINARY, "k/n >= 0.2"),
        (LENIENT, LabelMode.UNCERTAINTY, "k/n >= 0.8"),
    ],
)
def test_the_event_is_named_by_its_threshold(rule: AbilityRule, mode: LabelMode, event: str) -> None:
    assert rule.event(mode) == event
