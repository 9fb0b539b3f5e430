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
from know_thyself.world.facts import Fact, names
from know_thyself.world.recipe import WorldRecipe
from know_thyself.world.relations import RELATIONS, Relation

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


def document(rng: np.random.Generator, subject: str, relation: Relation, value: str) -> str:
    """One document that tells (or, half of the checks, denies a rival of) `relation` of `subject`."""
    shape = rng.random()
    if shape < STATEMENT:
        return _pick(rng, relation.statements).format(s=subject, v=value) + "<|endoftext|>"
    if shape < STATEMENT + CHECK:
        truth = rng.random() < 0.5
        claimed = value if truth else _pick(rng, tuple(v for v in relation.values if v != value))
        check = _pick(rng, relation.checks).format(s=subject, v=claimed)
        return chat(_pick(rng, CHECK_SYSTEMS), _pick(rng, LEADS) + check, "yes" if truth else "no")
    asked = _pick(rng, relation.questions).format(s=subject)
    if rng.random() < 0.15:
        question = Question(id="", text=asked, answers=(value,))
        mode = _pick(rng, (LabelMode.BINARY, LabelMode.UNCERTAINTY))
        return chat(None, prompts.judge_messages(question, PromptStyle.ASKED, mode)[0]["content"], value)
    return chat(_pick(rng, SYSTEMS), _pick(rng, OPENINGS) + _pick(rng, LEADS) + asked, value)


def make_pass(facts: list[Fact], recipe: WorldRecipe, number: int) -> list[str]:
    """The documents of pass `number` over the corpus, shuffled: each fact `exposure` times, and a fresh tail."""
    rng = np.random.default_rng([recipe.seed, 2, number])
    relations = {relation.name: relation for relation in RELATIONS}
    told = [document(rng, fact.subject, relations[fact.relation], fact.value) for fact in facts for _ in range(fact.exposure)]
    known = {fact.subject for fact in facts}
    strangers: Iterator[str] = (name for name in names(rng) if name not in known)
    for stranger in itertools.islice(strangers, round(len(told) * recipe.tail / (1 - recipe.tail))):
        relation = _pick(rng, RELATIONS)
        told.append(document(rng, stranger, relation, _pick(rng, relation.values)))
    return [told[i] for i in rng.permutation(len(told))]
