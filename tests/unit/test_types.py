"""Records: what goes into a table comes back."""

from __future__ import annotations

import dataclasses
import json
import pickle
import types
import typing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from know_thyself.errors import KnowThyselfError, RemoteError, StageError
from know_thyself.types import (
    Ability,
    AbilityLabel,
    Grade,
    Judgment,
    JudgmentExample,
    ModelRef,
    Question,
    Record,
    StageDone,
    Trial,
    Verdict,
)

RECORDS: tuple[type[Record], ...] = (Question, Trial, Grade, AbilityLabel, JudgmentExample, Judgment, ModelRef, StageDone)
PLAIN = {Any: st.text(), float: st.floats(allow_nan=False)}


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Any value of a field of type `hint`; floats without nan, which equals nothing."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is types.UnionType:
        return st.one_of(*map(values, arguments))
    if origin is tuple:
        return st.lists(values(arguments[0])).map(tuple)
    if origin is dict:
        return st.dictionaries(*map(values, arguments))
    return PLAIN[hint] if hint in PLAIN else st.from_type(hint)


def records(kind: type[Record]) -> st.SearchStrategy[Record]:
    hints = typing.get_type_hints(kind)
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]  # every record is a dataclass
    return st.builds(kind, **{field.name: values(hints[field.name]) for field in fields})


@pytest.mark.parametrize("kind", RECORDS)
@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_a_record_survives_its_row_and_json(kind: type[Record], data: st.DataObject) -> None:
    record = data.draw(records(kind))
    row = record.to_row()
    assert kind.from_row(row) == record
    assert kind.from_row({**json.loads(json.dumps(row)), "another column": 1}) == record
    assert kind.to_columns([record, record]) == {name: [value, value] for name, value in row.items()}
    assert {type(value) for value in row.values()} <= {str, int, float, bool, list, dict, type(None)}


def test_a_missing_column_and_a_word_that_is_no_member_are_errors() -> None:
    row = Grade(question_id="q", trial_index=0, correct=None, matched=None, grader="g").to_row()
    del row["correct"]
    with pytest.raises(KeyError, match="correct"):
        Grade.from_row(row)
    with pytest.raises(ValueError, match="perhaps"):
        AbilityLabel.from_row({"question_id": "q", "ability": "perhaps", "num_correct": 1, "num_graded": 1, "rule": ""})


def test_records_are_frozen() -> None:
    question = Question(id="q", text="?", answers=("a",))
    with pytest.raises(dataclasses.FrozenInstanceError):
        question.text = "!"  # type: ignore[misc]


def test_truth_and_claim_are_different_types() -> None:
    abilities: set[Any] = set(Ability)
    assert not any(isinstance(verdict, Ability) for verdict in Verdict)
    assert len(abilities) == len(Verdict)


ERRORS: dict[type[KnowThyselfError], tuple[Any, ...]] = {
    StageError: ("train", "no luck"),
    RemoteError: ("no such model", "model_not_found", 404, 1.5),
}
"""What errors of more than a message are made of."""


@pytest.mark.parametrize("kind", KnowThyselfError.__subclasses__())
def test_errors_cross_process_borders_whole(kind: type[KnowThyselfError]) -> None:
    error = kind(*ERRORS.get(kind, ("value: remedy",)))
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), vars(again)) == (kind, str(error), vars(error))
    assert str(StageError("train", "no luck")) == "train: no luck"
