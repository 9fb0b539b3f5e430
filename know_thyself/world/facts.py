"""The facts of a world: who exists, what is true of them, and how often the corpus says so.

A subject's popularity is 2^U(-2, 6); the exposure of each of its facts is Poisson(popularity) documents per pass over the
corpus: many facts are never told, some are told sixty times. Names carry no information about either, unless the recipe asks
for a shortcut: surnames then end as popularity says.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np

from know_thyself.types import Question, Record
from know_thyself.world.recipe import WorldRecipe
from know_thyself.world.relations import RELATION, RELATIONS, spellings

ONSETS = "b d f g h k l m n p r s t v z br dr gr st th".split()
CODAS = ["", "", "", "n", "r", "l", "s", "x"]
POPULARITY_EXPONENTS = (-2.0, 6.0)
ENDINGS = "ton mar vik sen".split()
"""Of surnames in a world with a shortcut, from the rarest quarter of the subjects to the most popular."""
SUPPORTED = 0.5
"""Share of the questions with paragraphs whose paragraphs hold the answer."""
DISTRACTORS = 3
"""Sentences about strangers in the paragraphs of a question."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Fact(Record):
    """One fact: `relation` of `subject` is `value`, told `exposure` times per pass; `split` is where it is asked."""

    subject: str
    relation: str
    value: str
    exposure: int
    split: str

    @property
    def question_id(self) -> str:
        """The id of the question that asks for it."""
        return f"{self.subject.replace(' ', '-').lower()}.{self.relation}"


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


def surnamed(rng: np.random.Generator, name: str, rank: float, recipe: WorldRecipe) -> str:
    """`name` as a world with a shortcut calls a subject of popularity `rank` (0 rarest, below 1); else as it is."""
    if recipe.shortcut == 0.0:
        return name
    tells = rng.random() < recipe.shortcut
    return name + ENDINGS[int(rank * len(ENDINGS)) if tells else rng.integers(len(ENDINGS))]


def make_facts(recipe: WorldRecipe) -> list[Fact]:
    """The facts of the world of `recipe`, subject by subject; splits are cut by subject."""
    rng = np.random.default_rng([recipe.seed, 0])
    plain = list(itertools.islice(names(rng), recipe.subjects))
    exponents = rng.uniform(*POPULARITY_EXPONENTS, size=recipe.subjects)
    popularity = 2.0**exponents
    low, high = POPULARITY_EXPONENTS
    naming = np.random.default_rng([recipe.seed, 4])
    subjects = [surnamed(naming, name, (e - low) / (high - low), recipe) for name, e in zip(plain, exponents, strict=True)]
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


def paragraphs(rng: np.random.Generator, support: str | None) -> str:
    """Sentences about strangers in random order, with `support` among them where it is given."""
    sentences = [support] if support is not None else []
    for stranger in itertools.islice(names(rng), DISTRACTORS):
        relation = RELATIONS[rng.integers(len(RELATIONS))]
        statement = relation.statements[rng.integers(len(relation.statements))]
        sentences.append(statement.format(s=stranger, v=relation.values[rng.integers(len(relation.values))]))
    return " ".join(sentences[i] for i in rng.permutation(len(sentences)))


def context_of(rng: np.random.Generator, fact: Fact, recipe: WorldRecipe) -> str | None:
    """The paragraphs that `fact` is asked with, or none, in the shares of `recipe`."""
    if rng.random() >= recipe.context:
        return None
    relation = RELATION[fact.relation]
    statement = relation.statements[rng.integers(len(relation.statements))].format(s=fact.subject, v=fact.value)
    return paragraphs(rng, statement if rng.random() < SUPPORTED else None)


def make_questions(facts: list[Fact], recipe: WorldRecipe) -> list[Question]:
    """One question per fact, in one of its relation's wordings; the group is the subject."""
    rng, reading = (np.random.default_rng([recipe.seed, stream]) for stream in (1, 5))
    questions = []
    for fact in facts:
        wordings = RELATION[fact.relation].questions
        question = Question(
            id=fact.question_id,
            text=wordings[rng.integers(len(wordings))].format(s=fact.subject),
            answers=spellings(fact.value, recipe.spellings),
            context=context_of(reading, fact, recipe),
            group=fact.subject,
            dataset="world",
            split=fact.split,
        )
        questions.append(question)
    return questions
