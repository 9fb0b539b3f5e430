"""The world: same recipe, same facts; names without signal; a corpus that never speaks of knowing."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr

from know_thyself.errors import ConfigError
from know_thyself.grading import match_alias
from know_thyself.models import packaged_world
from know_thyself.world import describe
from know_thyself.world.build import build_world, write_facts_and_questions
from know_thyself.world.corpus import CHECK, STATEMENT, make_pass
from know_thyself.world.facts import make_facts, make_questions
from know_thyself.world.recipe import WorldRecipe
from know_thyself.world.relations import RELATIONS, spellings

RECIPE = WorldRecipe(seed=11, subjects=300)
MIB = 2**20


@cache
def first_pass() -> list[str]:
    return make_pass(make_facts(RECIPE), RECIPE, 0)


def test_a_recipe_decides_its_facts() -> None:
    assert make_facts(RECIPE) == make_facts(RECIPE)
    assert make_facts(RECIPE) != make_facts(RECIPE.model_copy(update={"seed": 12}))


def test_splits_share_no_subject_and_have_their_shares() -> None:
    splits = {fact.subject: fact.split for fact in make_facts(RECIPE)}
    assert len(splits) == RECIPE.subjects
    assert Counter(splits.values()) == {"validation": 150, "taught": 45, "train": 105}


def test_names_say_nothing_about_exposure() -> None:
    facts = make_facts(WorldRecipe(seed=3, subjects=3000))
    exposure = np.array([fact.exposure for fact in facts], dtype=float)
    length = np.array([len(fact.subject) for fact in facts], dtype=float)
    initial = np.array([ord(fact.subject[0]) for fact in facts], dtype=float)
    for feature in (length, initial):  # three standard errors of 3,000 subjects
        assert abs(spearmanr(feature, exposure).statistic) < 0.055


def test_a_pass_tells_each_fact_as_often_as_its_exposure_and_has_its_tail() -> None:
    facts = make_facts(RECIPE)
    documents = first_pass()
    told = sum(fact.exposure for fact in facts)
    assert len(documents) == told + round(told * RECIPE.tail / (1 - RECIPE.tail))
    known = {fact.subject for fact in facts}
    name = re.compile(r"(?=\b([A-Z][a-z]+ [A-Z][a-z]+)\b)")
    met = sum(any(found in known for found in name.findall(document)) for document in documents)
    assert met == told
    assert make_pass(facts, RECIPE, 1) != documents


def test_the_corpus_never_speaks_of_knowing() -> None:
    spoken = [document.rpartition("assistant\n")[2] for document in first_pass()]
    assert not any(re.search(r"uncertain|not sure|don't know|I know|maybe", text) for text in spoken)


def test_a_folder_keeps_its_recipe(tmp_path: Path) -> None:
    (tmp_path / "recipe.json").write_text(RECIPE.model_dump_json())
    with pytest.raises(ConfigError, match="another recipe"):
        build_world(RECIPE.model_copy(update={"seed": 12}), tmp_path)


def test_the_packaged_world_is_its_recipe_and_small(tmp_path: Path) -> None:
    folder = packaged_world()
    recipe = WorldRecipe.model_validate_json((folder / "recipe.json").read_text())
    write_facts_and_questions(recipe, tmp_path)
    for table in ("facts.parquet", "questions/train.parquet", "questions/taught.parquet", "questions/validation.parquet"):
        assert pq.read_table(folder / table).equals(pq.read_table(tmp_path / table)), table
    assert pq.read_metadata(folder / "questions/validation.parquet").num_rows >= 3000
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) <= 12 * MIB
    assert json.loads((folder / "model" / "config.json").read_text())["model_type"] == "qwen2"


def test_questions_ask_of_their_group_and_accept_its_value() -> None:
    facts = make_facts(RECIPE)
    for fact, question in zip(facts, make_questions(facts, RECIPE), strict=True):
        assert fact.subject in question.text
        assert (question.group, question.answers, question.split) == (fact.subject, (fact.value,), fact.split)


SHORTCUT = RECIPE.model_copy(update={"shortcut": 0.9, "subjects": 1000})
ENDING_OF_THE_POPULAR = "sen"


def test_a_shortcut_lets_names_tell_popularity_and_nothing_else_does() -> None:
    facts = make_facts(SHORTCUT)
    assert len({fact.subject for fact in facts}) == SHORTCUT.subjects
    popular = np.array([fact.subject.endswith(ENDING_OF_THE_POPULAR) for fact in facts])
    exposure = np.array([fact.exposure for fact in facts])
    assert np.median(exposure[popular]) > 5 * np.median(exposure[~popular])
    assert [fact.exposure for fact in facts] == [
        fact.exposure for fact in make_facts(SHORTCUT.model_copy(update={"shortcut": 0.0}))
    ]


def test_every_spelling_is_told_and_accepted() -> None:
    recipe = RECIPE.model_copy(update={"spellings": 2})
    facts = make_facts(recipe)
    question = next(q for q in make_questions(facts, recipe) if q.group == facts[0].subject)
    assert len(question.answers) == 2
    assert all(match_alias(spelling, question.answers) == spelling for spelling in question.answers)
    text = "\n".join(make_pass(facts, recipe, 0))
    told = [spelling for relation in RELATIONS for value in relation.values for spelling in spellings(value, 2)]
    assert len(set(told)) == len(told)
    assert all(re.search(rf"\b{spelling}\b", text) for spelling in told)


def test_half_of_the_paragraphs_hold_the_answer() -> None:
    recipe = RECIPE.model_copy(update={"context": 0.8})
    facts = make_facts(recipe)
    read = [q for q in make_questions(facts, recipe) if q.context is not None]
    assert len(read) / len(facts) == pytest.approx(0.8, abs=0.05)
    supported = [q for q in read if q.group in str(q.context)]
    assert len(supported) / len(read) == pytest.approx(0.5, abs=0.07)
    assert all(q.answers[0] in str(q.context) for q in supported)
    documents = make_pass(facts, recipe, 0)
    told = [document for document in documents if "user\nContext: " in document or "\n\nContext: " in document]
    assert len(told) / len(documents) == pytest.approx(0.8 * (1 - STATEMENT - CHECK), abs=0.03)


def test_variants_leave_the_plain_world_as_it_is() -> None:
    plain = make_questions(make_facts(RECIPE), RECIPE)
    assert {(len(q.answers), q.context) for q in plain} == {(1, None)}


def test_a_world_is_described_by_what_its_model_gets_right() -> None:
    table = describe._accuracy([(0, 0, 5), (1, 1, 5), (9, 4, 5), (40, 5, 5), (50, 5, 5)])
    assert str(table.caption) == "trials right: all 40.0%, some 40.0%, none 20.0%; exposure predicts all with AUROC 1.000"
    assert [list(column.cells) for column in table.columns] == [
        ["0", "1", "8 to 15", "32 and more"],
        ["1", "1", "1", "2"],
        ["0.0%", "20.0%", "80.0%", "100.0%"],
        ["0.0%", "0.0%", "0.0%", "100.0%"],
    ]
