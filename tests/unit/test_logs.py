"""Training from logs: counts add up per question, what cannot be is set aside, and the grades read like graded trials."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.config import DataConfig, LabelConfig, RunConfig
from know_thyself.data.logs import Log, log_of
from know_thyself.data.splits import Questions
from know_thyself.errors import ConfigError, DataError
from know_thyself.pipelines.inputs import load_questions
from know_thyself.types import LabelMode

LOGGED = LabelConfig(source="logs")
OTHERS = [{"question": f"other {i}?", "num_correct": 1, "num_trials": 2} for i in range(4)]


def config_of(dataset: str, **settings: Any) -> RunConfig:
    return RunConfig(dataset=dataset, label=LOGGED, data=DataConfig(least=1, **settings))


def read(folder: Path, rows: Sequence[dict[str, Any]], **settings: Any) -> Questions:
    """Logged `rows`, among others."""
    folder.mkdir(exist_ok=True)
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in [*rows, *OTHERS]))
    (folder / "validation.jsonl").write_text(json.dumps({"question": "v?", "correct": True}) + "\n")
    return load_questions(config_of(str(folder), **settings))


def said(questions: Questions, text: str = "q?") -> Log:
    return next(questions.logs[question.id] for question in questions.questions if question.text == text)


def test_rows_of_one_question_are_its_trials(tmp_path: Path) -> None:
    rows = [{"question": "q?", "correct": value} for value in (True, 0, 1, False, 1.0)]
    found = read(tmp_path, rows)
    assert said(found) == (3, 5)
    assert len(found.questions) == 6
    assert found.dropped == {}
    assert all(question.answers == () for question in found.questions)


def test_counts_stand_for_trials_and_answers_are_kept(tmp_path: Path) -> None:
    rows = [
        {"question": "q?", "num_correct": 2, "num_trials": 4, "answers": ["a"]},
        {"question": " q? ", "correct": True, "answers": ["b"]},
    ]
    found = read(tmp_path, rows)
    assert said(found) == (3, 5)
    assert next(question.answers for question in found.questions if question.text == "q?") == ("a", "b")


IMPOSSIBLE = {
    "nothing": ({}, "no correct, and no num_correct and num_trials"),
    "both": ({"correct": 1, "num_correct": 1, "num_trials": 1}, "both correct and counts"),
    "more right than asked": ({"num_correct": 3, "num_trials": 2}, "num_correct is not in 0 to num_trials"),
    "negative": ({"num_correct": -1, "num_trials": 2}, "num_correct is not in 0 to num_trials"),
    "no trial": ({"num_correct": 0, "num_trials": 0}, "num_trials is not in 1 to 10000"),
    "absurdly many": ({"num_correct": 0, "num_trials": 10**9}, "num_trials is not in 1 to 10000"),
    "fraction": ({"num_correct": 0.5, "num_trials": 2}, "num_correct is no whole number"),
    "text": ({"num_correct": "1", "num_trials": 2}, "num_correct is no whole number"),
    "truth value": ({"num_correct": True, "num_trials": 2}, "num_correct is no whole number"),
    "half of it": ({"num_correct": 1}, "num_trials is no whole number"),
    "word": ({"correct": "yes"}, "correct is neither true nor false"),
    "share": ({"correct": 0.4}, "correct is neither true nor false"),
    "list": ({"correct": [1]}, "correct is neither true nor false"),
    "infinite": ({"num_correct": 1, "num_trials": float("inf")}, "num_trials is no whole number"),
}


@pytest.mark.parametrize(("row", "reason"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_what_cannot_be_is_set_aside_with_its_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    found = read(tmp_path, [{"question": "q?", **row}])
    assert found.dropped == {reason: 1}
    assert len(found.questions) == 5


def test_files_without_counts_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text('{"question": "q?", "answers": ["a"]}\n')
    (tmp_path / "validation.jsonl").write_text('{"question": "v?", "answers": ["a"]}\n')
    with pytest.raises(
        DataError, match=r"1 x no correct, and no num_correct .*rows of question and correct, or of question, num"
    ):
        load_questions(config_of(str(tmp_path)))
    for name in ("world", "triviaqa"):
        with pytest.raises(ConfigError, match=f"{name} has none: give a folder"):
            load_questions(config_of(name))


def test_one_trial_cannot_show_uncertainty(tmp_path: Path) -> None:
    read(tmp_path, [])
    config = config_of(str(tmp_path)).model_copy(update={"label_mode": LabelMode.UNCERTAINTY})
    with pytest.raises(DataError, match=r'1 of 5 questions, .* one trial .*cannot yield "uncertain": give two or more'):
        load_questions(config)


@given(
    st.dictionaries(
        st.sampled_from(["correct", "num_correct", "num_trials"]),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    )
)
def test_any_row_is_a_count_or_a_reason(row: dict[str, Any]) -> None:
    try:
        log = log_of(row)
    except ValueError:
        return
    assert 0 <= log.num_correct <= log.num_trials
    assert log.num_trials >= 1
