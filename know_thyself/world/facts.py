"""The facts of a world: who exists, what is true of them, and how often the corpus says so.

A subject's popularity is 2^U(-2, 6); the exposure of each of its facts is Poisson(popularity) documents per pass over the
corpus: many facts are never told, some are told sixty times. Names carry no information about either.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from know_thyself.types import Question, Record
from know_thyself.world.recipe import WorldRecipe
from know_thyself.world.relations import RELATIONS

ONSETS = "b d f g h k l m n p r s t v z br dr gr st th".split()
CODAS = ["", "", "", "n", "r", "l", "s", "x"]
POPULARITY_EXPONENTS = (-2.0, 6.0)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Record):
    """One fact: `relation` of `subject` is `value`, told `exposure` times per pass; `split` is where it is asked."""

    subject: str
    relation: str
    value: str
    exposure: int
    split: str


def names(rng: np.random.Generator) -> Iterator[str]:
    """Endless invented two-word names, each given once."""
    seen: set[str] = set()
    while True:
        first, last = (_word(rng) for _ in range(2))
        name = f"{first} {last}"
        if name not in seen:
            seen.add(name)
            yield name


def _word(rng: np.random.Generator) -> str:
    syllables = [ONSETS[rng.integers(len(ONSETS))] + "aeiou"[rng.integers(5)] for _ in range(rng.integers(2, 4))]
    return ("".join(syllables) + CODAS[rng.integers(len(CODAS))]).capitalize()


def make_facts(recipe: WorldRecipe) -> list[Fact]:
    """The facts of the world of `recipe`, subject by subject; splits are cut by subject."""
    rng = np.random.default_rng([recipe.seed, 0])
    subjects = list(itertools.islice(names(rng), recipe.subjects))
    popularity = 2.0 ** rng.uniform(*POPULARITY_EXPONENTS, size=recipe.subjects)
    facts = []
    for subject, expected, split in zip(subjects, popularity, _splits(recipe), strict=True):
        for relation in RELATIONS:
            value = relation.values[rng.integers(len(relation.values))]
            exposure = int(rng.poisson(expected))
            facts.append(Fact(subject=subject, relation=relation.name, value=value, exposure=exposure, split=split))
    return facts


def _splits(recipe: WorldRecipe) -> list[str]:
    """The split of each subject; subjects come in random order, so a cut is a random draw."""
    validation = round(recipe.subjects * recipe.validation)
    taught = round(recipe.subjects * recipe.taught)
    return ["validation"] * validation + ["taught"] * taught + ["train"] * (recipe.subjects - validation - taught)


def make_questions(facts: list[Fact], recipe: WorldRecipe) -> list[Question]:
    """One question per fact, in one of its relation's wordings; the group is the subject."""
    rng = np.random.default_rng([recipe.seed, 1])
    relations = {relation.name: relation for relation in RELATIONS}
    questions = []
    for fact in facts:
        wordings = relations[fact.relation].questions
        text = wordings[rng.integers(len(wordings))].format(s=fact.subject)
        identity = f"{fact.subject.replace(' ', '-').lower()}.{fact.relation}"
        questions.append(
            Question(id=identity, text=text, answers=(fact.value,), group=fact.subject, dataset="world", split=fact.split)
        )
    return questions
