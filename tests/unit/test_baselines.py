"""Baselines and the audit: on worlds whose shortcut is known, and on rivals made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from know_thyself.evaluation.audit import Cost, Rival, audit, compare, run_baselines
from know_thyself.evaluation.baselines import BASELINES, QUESTION_ONLY, Material, Need, Study
from know_thyself.evaluation.baselines.answers import agreement, semantic_entropy, stated_number
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.world.facts import make_facts, make_questions
from know_thyself.world.recipe import WorldRecipe
from tests.unit.columns import make_scores, simulated

UNMET = dict.fromkeys((Need.UNTRAINED, Need.STATES, Need.GREEDY, Need.PROBES, Need.TRIALS), "nobody was asked")


def world_study(shortcut: float) -> tuple[Study, Scores]:
    """Questions of a world in their splits, answered as their exposure allows, and a judge that knows the exposure."""
    recipe = WorldRecipe(seed=5, subjects=900, shortcut=shortcut, validation=0.4)
    facts, rng = make_facts(recipe), np.random.default_rng(0)
    questions = make_questions(facts, recipe)
    known = 1 - np.exp(-np.array([fact.exposure for fact in facts]) / 8)
    right = rng.binomial(5, known)
    rows = {split: [i for i, q in enumerate(questions) if q.split == split] for split in ("train", "taught", "validation")}
    parts = {
        split: Material(event=right[chosen] >= 3, texts=np.array([questions[i].text for i in chosen], dtype=object))
        for split, chosen in rows.items()
    }
    validation = rows["validation"]
    judge = make_scores(right[validation].tolist(), known[validation].tolist(), group=[questions[i].group for i in validation])
    return Study(train=parts["train"], dev=parts["taught"], validation=parts["validation"]), judge


@pytest.fixture(scope="module")
def plain() -> dict[str, dict[str, object]]:
    study, judge = world_study(shortcut=0.0)
    return compare(judge, run_baselines(study, UNMET, {}), replicates=300)


@pytest.fixture(scope="module")
def cut_short() -> dict[str, dict[str, object]]:
    study, judge = world_study(shortcut=1.0)
    return compare(judge, run_baselines(study, UNMET, {}), replicates=300)


def test_names_that_tell_nothing_leave_the_question_at_chance(plain: dict[str, dict[str, float]]) -> None:
    for name in QUESTION_ONLY - {"base-rate"}:
        assert plain[name]["auroc_low"] - 0.03 < 0.5 < plain[name]["auroc_high"] + 0.03, name
    found = audit(plain)
    assert found["shown"]
    assert found["verdict"].startswith("The judge knows more about itself than the question reveals: +0.")


def test_names_that_tell_popularity_are_caught(
    plain: dict[str, dict[str, float]], cut_short: dict[str, dict[str, float]]
) -> None:
    for name in ("text-logistic", "text-neighbours"):
        assert cut_short[name]["auroc_low"] > 0.75 > plain[name]["auroc_high"], name
    found = audit(cut_short)
    assert found["baseline"] in ("text-logistic", "text-neighbours")
    assert found["delta"] < audit(plain)["delta"] - 0.2


def test_a_judge_that_reads_the_question_alone_is_not_credited() -> None:
    study, judge = world_study(shortcut=1.0)
    rivals = run_baselines(study, UNMET, {})
    read = rivals["text-logistic"].scores
    assert read is not None
    mimic = make_scores(judge.num_correct.tolist(), (1 / (1 + np.exp(-read))).tolist(), group=judge.group.tolist())
    found = audit(compare(mimic, rivals, replicates=200))
    assert not found["shown"]
    assert found["verdict"].startswith("Not shown that the judge knows more")
    blind = make_scores(judge.num_correct.tolist(), np.random.default_rng(1).random(len(judge)).tolist())
    assert audit(compare(blind, rivals, replicates=200))["verdict"].startswith("The question reveals more")


def test_what_is_not_given_is_left_out_by_name(plain: dict[str, dict[str, object]]) -> None:
    assert plain.keys() == BASELINES.keys()
    for name, baseline in BASELINES.items():
        missing = baseline.needs in UNMET
        assert (plain[name]["auroc"] is None) == missing
        assert plain[name]["reason"] == (UNMET[baseline.needs] if missing else "")
    assert plain["base-rate"]["auroc"] == 0.5


def test_differences_are_paired_and_point_to_the_judge() -> None:
    judge = simulated(400, seed=1)
    same, noise = judge.confidence.copy(), np.random.default_rng(2).random(400)
    rivals = {name: Rival(scores=scores, cost=Cost(tokens=2.0)) for name, scores in (("same", same), ("noise", noise))}
    found = compare(judge, rivals, replicates=200)
    assert (found["same"]["delta"], found["same"]["delta_low"], found["same"]["delta_high"]) == (0, 0, 0)
    assert found["noise"]["delta"] == pytest.approx((auroc(judge.confidence, judge.event) or 0) - found["noise"]["auroc"])
    assert 0 < found["noise"]["delta_low"] < found["noise"]["delta"] < found["noise"]["delta_high"]
    assert found["noise"]["tokens"] == 2.0


def test_a_rival_is_compared_where_it_has_a_value_and_not_at_all_where_it_has_few() -> None:
    judge = simulated(300, seed=3)
    half = np.where(np.arange(300) < 200, judge.confidence, np.nan)
    few = np.where(np.arange(300) < 100, judge.confidence, np.nan)
    rivals = {"half": Rival(scores=half, cost=Cost()), "few": Rival(scores=few, cost=Cost())}
    found = compare(judge, rivals, replicates=100)
    assert (found["half"]["questions"], found["half"]["delta"]) == (200, 0)
    assert found["few"]["auroc"] is None
    assert found["few"]["reason"] == "it says something of fewer than half of the questions"


def test_the_probe_finds_the_layer_that_knows() -> None:
    rng = np.random.default_rng(4)

    def part(number: int) -> Material:
        event = rng.random(number) < 0.5
        states = rng.normal(size=(3, number, 20)).astype(np.float16)
        states[1, :, 3] += (3 * event).astype(np.float16)
        return Material(event=event, texts=np.full(number, "?", dtype=object), states=states)

    study = Study(train=part(400), dev=part(200), validation=part(200))
    scores = BASELINES["linear-probe"].score(study)
    assert scores is not None
    assert (auroc(scores, study.validation.event) or 0) > 0.95


def test_of_one_kind_of_questions_nothing_is_learned() -> None:
    one = Material(event=np.ones(5, dtype=bool), texts=np.full(5, "?", dtype=object))
    study = Study(train=one, dev=one, validation=one)
    found = run_baselines(study, {}, {})
    assert found["text-logistic"].reason == "the training or dev questions are all of one kind"


def test_answers_agree_by_meaning() -> None:
    replies = ["Paris.", "Answer: paris", "the Paris", "Lyon", ""]
    assert agreement(replies) == 0.6
    shares = np.array([0.6, 0.2, 0.2])
    assert semantic_entropy(replies) == pytest.approx(-(shares * np.log(shares)).sum())
    assert semantic_entropy(["a"] * 5) == 0
    assert np.isnan(agreement([]))


@pytest.mark.parametrize(
    ("reply", "share"),
    [("85", 0.85), ("I am 100% sure", 1.0), ("about 7.", 0.07), ("0", 0.0), ("1000", None), ("0.85", None), ("very", None)],
)
def test_a_stated_number_is_read_or_it_is_none(reply: str, share: float | None) -> None:
    found = stated_number(reply)
    assert np.isnan(found) if share is None else found == share
