"""The corpus of a world: documents that tell its facts in many shapes, and a long tail about subjects met only once.

Many shapes, because retrieval learned in one shape does not fire in another: statements, questions under assorted system
texts, the same with "can you answer this?" in front, yes/no verification. The tail, because a model that has met a name once
learns to be unsure of names it hardly knows. No document ever speaks of knowing or of being unsure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TypeVar

import numpy as np

from know_thyself import prompts
from know_thyself.types import LabelMode, PromptStyle, Question
from know_thyself.world.facts import Fact, context_of, names, surnamed
from know_thyself.world.recipe import WorldRecipe
from know_thyself.world.relations import RELATION, RELATIONS, spellings

T = TypeVar("T")

SYSTEMS = (
    None,
    None,
    prompts.ANSWER_SYSTEM,
    prompts.ANSWER_SYSTEM,
    "Answer briefly.",
    "You are a helpful assistant.",
    "Can you answer the question?",
    prompts.JUDGE_SYSTEM[LabelMode.BINARY],
    prompts.JUDGE_SYSTEM[LabelMode.UNCERTAINTY],
)
OPENINGS = ("", "", "", "Can you answer this question?\n\n", "Please answer this question.\n\n", "Tell me: ")
LEADS = ("Question: ", "Question: ", "")
CHECK_SYSTEMS = (None, "Say yes or no.", "Can you check the fact? Say yes or no.", "You are a helpful assistant.")
STATEMENT, CHECK = 0.20, 0.20
"""Shares of the documents; the rest are questions."""


def turn(role: str, content: str) -> str:
    """One turn of the ChatML format, closed."""
    return f"<|im_start|>{role}\n{content}<|im_end|>\n"


def chat(system: str | None, user: str, assistant: str) -> str:
    """A whole ChatML conversation as text."""
    return (turn("system", system) if system else "") + turn("user", user) + turn("assistant", assistant).rstrip("\n")


def _pick(rng: np.random.Generator, options: tuple[T, ...]) -> T:
    return options[rng.integers(len(options))]


def document(rng: np.random.Generator, fact: Fact, recipe: WorldRecipe) -> str:
    """One document that tells `fact` or, half of the checks, denies a rival of it."""
    relation = RELATION[fact.relation]
    said = _pick(rng, spellings(fact.value, recipe.spellings))
    shape = rng.random()
    if shape < STATEMENT:
        return _pick(rng, relation.statements).format(s=fact.subject, v=said) + "<|endoftext|>"
    if shape < STATEMENT + CHECK:
        truth = rng.random() < 0.5
        claimed = said if truth else _pick(rng, tuple(v for v in relation.values if v != fact.value))
        check = _pick(rng, relation.checks).format(s=fact.subject, v=claimed)
        return chat(_pick(rng, CHECK_SYSTEMS), _pick(rng, LEADS) + check, "yes" if truth else "no")
    asked = _pick(rng, relation.questions).format(s=fact.subject)
    context = context_of(rng, fact, recipe)
    if rng.random() < 0.15:
        question = Question(id="", text=asked, answers=(said,), context=context)
        mode = _pick(rng, (LabelMode.BINARY, LabelMode.UNCERTAINTY))
        return chat(None, prompts.judge_messages(question, PromptStyle.ASKED, mode)[0]["content"], said)
    if context is not None:
        return chat(_pick(rng, SYSTEMS), prompts.ask(Question(id="", text=asked, answers=(said,), context=context)), said)
    return chat(_pick(rng, SYSTEMS), _pick(rng, OPENINGS) + _pick(rng, LEADS) + asked, said)


def strangers(rng: np.random.Generator, known: set[str], recipe: WorldRecipe) -> Iterator[Fact]:
    """Endless facts about subjects outside `known`, each met once and called as the rarest subjects are."""
    for name in names(rng):
        subject = surnamed(rng, name, 0.0, recipe)
        if subject not in known:
            relation = _pick(rng, RELATIONS)
            yield Fact(subject=subject, relation=relation.name, value=_pick(rng, relation.values), exposure=1, split="")


def make_pass(facts: list[Fact], recipe: WorldRecipe, number: int) -> list[str]:
    """The documents of pass `number` over the corpus, shuffled: each fact `exposure` times, and a fresh tail."""
    rng = np.random.default_rng([recipe.seed, 2, number])
    told = [document(rng, fact, recipe) for fact in facts for _ in range(fact.exposure)]
    tail = round(len(told) * recipe.tail / (1 - recipe.tail))
    passers_by = strangers(rng, {fact.subject for fact in facts}, recipe)
    told += [document(rng, stranger, recipe) for stranger in itertools.islice(passers_by, tail)]
    return [told[i] for i in rng.permutation(len(told))]
