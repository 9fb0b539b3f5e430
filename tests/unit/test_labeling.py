"""The one rule from grades to abilities, and its way into targets and out of verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.evaluation.ceiling import BetaBinomial
from know_thyself.labeling import (
    AbilityRule,
    TargetRule,
    class_odds,
    confidence,
    expected_verdict,
    hard_target,
    label,
    owed_shares,
    soft_target,
)
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
    target = hard_target(ability, mode)
    assert (len(target), sum(target), max(target)) == (len(VERDICT_WORDS[mode]), 1.0, 1.0)
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


@pytest.mark.parametrize("mode", LabelMode)
@pytest.mark.parametrize("num_correct", range(6))
def test_a_hard_target_is_the_class_of_the_counts(num_correct: int, mode: LabelMode) -> None:
    found = labelled(num_correct, 5)
    targets = TargetRule.fit([found], mode, "hard", RULE)
    assert targets.prior is None
    assert targets.target(found) == hard_target(found.ability, mode)
    assert read_verdict(targets.target(found), mode) is expected_verdict(found.ability, mode)


def test_a_soft_target_of_two_verdicts_is_the_accuracy_and_needs_no_prior() -> None:
    targets = TargetRule.fit([labelled(3, 5)], LabelMode.BINARY, "soft", RULE)
    assert targets.prior is None
    assert targets.target(labelled(3, 5)) == owed_shares(labelled(3, 5), LabelMode.BINARY) == (0.6, 0.4)
    assert owed_shares(labelled(3, 5), LabelMode.UNCERTAINTY) == (0.0, 1.0, 0.0)


UNIFORM = BetaBinomial(alpha=1.0, beta=1.0)


def test_odds_of_the_classes_done_by_hand() -> None:
    # One of one right under a uniform prior: the accuracy is Beta(2, 1), a new trial is right with 2/3.
    assert class_odds(UNIFORM, RULE, 1, 1) == pytest.approx((2 / 3, 0, 1 / 3))
    # One of two: Beta(2, 2); two new trials: both right with 2*3/(4*5), none with as much, one with the rest.
    assert class_odds(UNIFORM, RULE, 1, 2) == pytest.approx((0.3, 0.4, 0.3))
    assert class_odds(UNIFORM, AbilityRule(can_at=0.5, uncertain_at=0.5), 1, 2) == pytest.approx((0.7, 0, 0.3))


@given(
    alpha=st.floats(0.05, 20),
    beta=st.floats(0.05, 20),
    num_graded=st.integers(1, 30),
    data=st.data(),
)
def test_odds_sum_to_one_and_rise_with_right_trials(alpha: float, beta: float, num_graded: int, data: st.DataObject) -> None:
    prior, num_correct = BetaBinomial(alpha=alpha, beta=beta), data.draw(st.integers(0, num_graded))
    odds = class_odds(prior, RULE, num_correct, num_graded)
    assert sum(odds) == pytest.approx(1.0)
    assert min(odds) >= 0
    if num_correct < num_graded:
        more = class_odds(prior, RULE, num_correct + 1, num_graded)
        assert more[0] >= odds[0] - 1e-9
        assert more[2] <= odds[2] + 1e-9


def test_odds_are_what_a_second_measurement_shows() -> None:
    rng = np.random.default_rng(0)
    accuracy = rng.beta(0.5, 0.8, 400_000)
    first, second = rng.binomial(5, accuracy), rng.binomial(5, accuracy)
    for right in range(6):
        again = second[first == right]
        shown = (np.mean(again == 5), np.mean((again >= 3) & (again < 5)), np.mean(again < 3))
        assert class_odds(BetaBinomial(alpha=0.5, beta=0.8), RULE, right, 5) == pytest.approx(shown, abs=0.01)


def test_soft_targets_of_three_verdicts_stand_on_the_spread_of_all_labels() -> None:
    sure = [labelled(k, 5) for k in [0] * 40 + [5] * 40 + [4]]
    mixed = [labelled(k, 5) for k in [1, 2, 3, 4] * 20]
    of_sure, of_mixed = (TargetRule.fit(labels, LabelMode.UNCERTAINTY, "soft", RULE) for labels in (sure, mixed))
    assert of_sure.target(labelled(5, 5))[0] > 0.9 > 0.5 > of_mixed.target(labelled(5, 5))[0]
    assert of_mixed.target(labelled(3, 5)) == class_odds(of_mixed.prior or UNIFORM, RULE, 3, 5)


def test_without_labels_there_is_no_prior_and_no_soft_target_of_three() -> None:
    targets = TargetRule.fit([], LabelMode.UNCERTAINTY, "soft", RULE)
    with pytest.raises(ValueError, match="need a prior"):
        targets.target(labelled(3, 5))


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
