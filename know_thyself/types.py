"""The nouns of know-thyself: frozen records and the enums they are made of.

Nothing here computes more than a property. `to_row` and `from_row` are the only way a record meets a table.
"""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache
from typing import Any, Self


class Ability(StrEnum):
    """What the trials measured: the truth about one question for one model."""

    CAN = "can"
    UNCERTAIN = "uncertain"
    CANNOT = "cannot"


class Verdict(StrEnum):
    """What a judge claims. A separate enum from `Ability`, so that truth and claim are never compared by string."""

    CAN = "can"
    UNCERTAIN = "uncertain"
    CANNOT = "cannot"


class Finish(StrEnum):
    """Why the generation of a trial ended."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"


class LabelMode(StrEnum):
    """`BINARY`: can or cannot. `UNCERTAINTY`: can, uncertain or cannot."""

    BINARY = "binary"
    UNCERTAINTY = "uncertainty"


class PromptStyle(StrEnum):
    """Where the judge looks: see `know_thyself.prompts`."""

    SAME = "same"
    SYSTEM = "system"
    ASKED = "asked"


class Split(StrEnum):
    """The part of the data a question belongs to."""

    TRAIN = "train"
    DEV = "dev"
    CALIBRATION = "calibration"
    VALIDATION = "validation"


class Pool(StrEnum):
    """The part that a question has in the three-phase study; groups are in one pool alone.

    `JUDGED_TAUGHT`: taught, and in both judges' training. `TAUGHT_HELD_OUT`: taught, and in no judge's training.
    `JUDGED_NOT_TAUGHT`: the judges' dev questions, which choose their epochs. `NEVER_SEEN`: validation, which chooses nothing.
    No question of these two is taught or rehearsed.
    """

    JUDGED_TAUGHT = "judged_taught"
    TAUGHT_HELD_OUT = "taught_held_out"
    JUDGED_NOT_TAUGHT = "judged_not_taught"
    NEVER_SEEN = "never_seen"


@cache
def _decoders(record: type) -> dict[str, Any]:
    """For each field of `record` that a table cannot hold as it is, the callable that rebuilds it."""
    hints = typing.get_type_hints(record)
    decoders: dict[str, Any] = {}
    for field in dataclasses.fields(record):
        hint = hints[field.name]
        if isinstance(hint, types.UnionType):
            hint = next(option for option in typing.get_args(hint) if option is not type(None))
        if typing.get_origin(hint) is tuple:
            decoders[field.name] = tuple
        elif isinstance(hint, type) and issubclass(hint, StrEnum):
            decoders[field.name] = hint
    return decoders


def _plain(value: Any) -> Any:
    """`value` as a table holds it."""
    return list(value) if isinstance(value, tuple) else str(value) if isinstance(value, StrEnum) else value


class Record:
    """Base of the records: conversion to and from the rows of a table."""

    __slots__ = ()

    def to_row(self) -> dict[str, Any]:
        """The record as a row of plain values: enums become strings, tuples become lists."""
        return {field.name: _plain(getattr(self, field.name)) for field in dataclasses.fields(self)}  # type: ignore[arg-type]

    @classmethod
    def to_columns(cls, records: Sequence[Self]) -> dict[str, list[Any]]:
        """The same of many, column by column: as rows, a million take a GiB more."""
        names = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
        return {name: [_plain(getattr(record, name)) for record in records] for name in names}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Self:
        """The record held in `row`; columns that are not fields are ignored. Raises `KeyError` for a missing one."""
        decoders = _decoders(typing.cast("type", cls))
        values = {}
        for field in dataclasses.fields(cls):  # type: ignore[arg-type]
            value = row[field.name]
            decode = decoders.get(field.name)
            values[field.name] = value if decode is None or value is None else decode(value)
        return cls(**values)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Question(Record):
    """Something asked, with its accepted answers.

    `group` is the unit of cutting, leak checks and bootstrap: a subject or a cluster of duplicates. `dataset` and `split`
    say where the question came from.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    context: str | None = None
    group: str = ""
    dataset: str = ""
    split: str = ""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Trial(Record):
    """One generated answer to a question. `num_tokens` counts generated tokens, the end token included."""

    question_id: str
    index: int
    seed: int
    text: str
    finish: Finish
    num_tokens: int


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Grade(Record):
    """Whether one trial is right; `matched` is the accepted answer it hit.

    `correct` is None when it could not be graded, and `fault` then says why.
    """

    question_id: str
    trial_index: int
    correct: bool | None
    matched: str | None
    grader: str
    fault: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class AbilityLabel(Record):
    """The measured ability of one question for one model: `num_correct` of `num_graded` trials, under `rule`."""

    question_id: str
    ability: Ability
    num_correct: int
    num_graded: int
    rule: str

    @property
    def accuracy(self) -> float:
        """Share of right trials, 0..1."""
        return self.num_correct / self.num_graded

    @property
    def all_correct(self) -> bool:
        """Whether every trial was right: the question's answer is known."""
        return self.num_correct == self.num_graded


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JudgmentExample(Record):
    """One training example of a judge: the question, the probability of each verdict word, and a weight in the loss."""

    question_id: str
    target: tuple[float, ...]
    weight: float = 1.0


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Judgment(Record):
    """The model's own claim about a question.

    `probabilities` are over the verdict words, in the order of the mode's words, and sum to 1; `confidence` is P(event) as
    read; `mass` is the probability the model put on the verdict words at all (low: it wanted to say something else).
    """

    question_id: str
    verdict: Verdict
    confidence: float
    mass: float
    probabilities: tuple[float, ...]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ModelRef(Record):
    """A model: `name` is a folder or hub id, `digest` identifies its weights, `adapter` a PEFT folder upon it."""

    name: str
    revision: str | None = None
    digest: str = ""
    adapter: str | None = None


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class StageDone(Record):
    """What a stage's marker says: it is complete, what it was made from, and that no row was lost."""

    stage: str
    config_digest: str
    inputs_digest: str
    content_digest: str
    num_in: int
    num_out: int
    num_dropped: dict[str, int]
    seconds: float
    attempt: int
    versions: dict[str, str]
    parts: dict[str, dict[str, Any]]
