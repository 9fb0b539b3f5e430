"""Questions from files: what is damaged is refused with its line, what is unusable is counted, and nothing vanishes."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from know_thyself.data.files import draft, folder_parts
from know_thyself.data.rows import LONGEST_CONTEXT, LONGEST_TEXT, Reading, read_parts
from know_thyself.errors import DataError
from know_thyself.types import Question, Split

GOOD = b'{"question": "Who wrote Emma?", "answers": ["Jane Austen"]}'
OTHER = b'{"question": "Who wrote Hamlet?", "answers": ["Shakespeare"]}'


def read_folder(
    folder: Path, malformed: Literal["strict", "lenient"]
) -> tuple[Sequence[Question], Sequence[Question], dict[str, int]]:
    loaded = read_parts(folder_parts(folder, malformed), Reading(dataset=folder.name, draft=draft))
    return loaded.train, loaded.validation, loaded.dropped


def read(
    folder: Path, content: bytes, malformed: Literal["strict", "lenient"] = "strict", name: str = "train.jsonl"
) -> tuple[Sequence[Question], dict[str, int]]:
    """Training questions and drops of a folder whose training file is `content`."""
    (folder / name).write_bytes(content)
    (folder / "validation.jsonl").write_bytes(OTHER)
    train, _, dropped = read_folder(folder, malformed)
    return train, dropped


def read_row(folder: Path, **row: Any) -> tuple[Question | None, dict[str, int]]:
    """The question in `row`, among good ones, and what was dropped."""
    train, dropped = read(folder, GOOD + b"\n" + json.dumps(row).encode() + b"\n" + OTHER)
    assert len(train) == 3 - sum(dropped.values())
    return (None if dropped else train[1]), dropped


def expect_refusal(told: str, folder: Path, malformed: Literal["strict", "lenient"] = "strict") -> None:
    with pytest.raises(DataError) as caught:
        read_folder(folder, malformed)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


READABLE = {
    "line feeds": GOOD + b"\n" + OTHER + b"\n",
    "no last line feed": GOOD + b"\n" + OTHER,
    "CRLF": GOOD + b"\r\n" + OTHER + b"\r\n",
    "byte order mark": b"\xef\xbb\xbf" + GOOD + b"\n" + OTHER,
    "blank lines": b"\n" + GOOD + b"\n  \n" + OTHER + b"\n\n",
}


@pytest.mark.parametrize("content", READABLE.values(), ids=READABLE)
def test_every_way_to_end_a_line_reads_alike(content: bytes, tmp_path: Path) -> None:
    train, dropped = read(tmp_path, content)
    assert [question.text for question in train] == ["Who wrote Emma?", "Who wrote Hamlet?"]
    assert dropped == {}


MALFORMED = {
    "torn line": (GOOD[:-9], "not JSON"),
    "not UTF-8": (b'{"question": "\xff", "answers": ["a"]}', "not UTF-8"),
    "UTF-16": (GOOD.decode().encode("utf-16"), "not UTF-8"),
    "NUL": (b'{"question": "a\x00b", "answers": ["a"]}', "a NUL character"),
    "text": (b"Who wrote Emma?", "not JSON"),
    "list": (b'["Who wrote Emma?", "Jane Austen"]', "not a JSON object"),
    "number": (b"7", "not a JSON object"),
    "deep nesting": (b"[" * 100_000, "nested too deeply"),
    "huge number": (b'{"question": "a?", "answers": ["a"], "id": ' + b"9" * 5000 + b"}", "limit"),
    "key twice": (b'{"question": "a?", "question": "b?", "answers": ["a"]}', "a key stands twice"),
    "two objects": (GOOD + GOOD, "not JSON"),
    "late byte order mark": (b"\xef\xbb\xbf" + GOOD, "not JSON"),
}


@pytest.mark.parametrize(("line", "told"), MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_line_is_refused_by_number_or_set_aside_and_counted(line: bytes, told: str, tmp_path: Path) -> None:
    content = GOOD + b"\n" + line + b"\n"
    with pytest.raises(DataError, match=r"train\.jsonl line 2: .*--data\.malformed lenient") as caught:
        read(tmp_path, content)
    assert told in str(caught.value)
    train, dropped = read(tmp_path, content + OTHER, "lenient")
    assert len(train) == 2
    assert dropped == {"malformed line": 1}


@pytest.mark.parametrize(
    "content",
    [gzip.compress(GOOD * 50)[:-30], b"no gzip", gzip.compress(GOOD)[:-8] + b"\0" * 8],
    ids=["cut short", "no gzip", "another sum"],
)
def test_a_damaged_gzip_file_is_refused_even_if_lenient(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"train\.jsonl\.gz is a damaged or truncated gzip file"):
        read(tmp_path, content, "lenient", "train.jsonl.gz")


def test_a_whole_gzip_file_is_read(tmp_path: Path) -> None:
    assert len(read(tmp_path, gzip.compress(GOOD + b"\n" + OTHER), name="train.jsonl.gz")[0]) == 2


@pytest.mark.parametrize(("content", "told"), [(b"", "it is empty"), (b"\n\n", "it is empty"), (b"{}", "1 x no question text")])
def test_a_file_without_a_question_is_refused_with_the_reasons(content: bytes, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=told):
        read(tmp_path, content)


UNUSABLE = {
    "no question": ({"answers": ["a"]}, "no question text"),
    "empty question": ({"question": "", "answers": ["a"]}, "no question text"),
    "white space": ({"question": " \n\t\u00a0", "answers": ["a"]}, "no question text"),
    "zero-width characters": ({"question": "\u200b\u2060\ufeff", "answers": ["a"]}, "no question text"),
    "control characters": ({"question": "\x07\x1b", "answers": ["a"]}, "no question text"),
    "question is a number": ({"question": 7, "answers": ["a"]}, "question is no text"),
    "question is a list": ({"question": ["a?"], "answers": ["a"]}, "question is no text"),
    "no answers": ({"question": "a?"}, "no answer"),
    "null answers": ({"question": "a?", "answers": None}, "no answer"),
    "empty list": ({"question": "a?", "answers": []}, "no answer"),
    "empty answers": ({"question": "a?", "answers": ["", " ", "\u200b"]}, "no answer"),
    "answers are numbers": ({"question": "a?", "answers": [1939]}, "answers are no texts"),
    "answers are objects": ({"question": "a?", "answers": {"value": "a"}}, "answers are no texts"),
    "null among answers": ({"question": "a?", "answers": ["a", None]}, "answers are no texts"),
    "context is a list": ({"question": "a?", "answers": ["a"], "context": ["c"]}, "context is no text"),
    "id is a list": ({"question": "a?", "answers": ["a"], "id": [1]}, "id is no text"),
    "id is a fraction": ({"question": "a?", "answers": ["a"], "id": 1.5}, "id is no text"),
    "id is a truth value": ({"question": "a?", "answers": ["a"], "id": True}, "id is no text"),
    "group is an object": ({"question": "a?", "answers": ["a"], "group": {}}, "group is no text"),
    "surrogate in the question": ({"question": "a\ud800?", "answers": ["a"]}, "unpaired surrogate"),
    "surrogate in an answer": ({"question": "a?", "answers": ["a", "b\udfff"]}, "unpaired surrogate"),
    "surrogate in the id": ({"question": "a?", "answers": ["a"], "id": "b\ud800"}, "unpaired surrogate"),
    "long question": ({"question": "a" * (LONGEST_TEXT + 1), "answers": ["a"]}, "too long"),
    "10 MB answer": ({"question": "a?", "answers": ["a" * 10**7]}, "too long"),
    "long context": ({"question": "a?", "answers": ["a"], "context": "c" * (LONGEST_CONTEXT + 1)}, "too long"),
}


@pytest.mark.parametrize(("row", "reason"), UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_row_is_set_aside_with_its_reason(row: dict[str, Any], reason: str, tmp_path: Path) -> None:
    assert read_row(tmp_path, **row)[1] == {reason: 1}


@pytest.mark.parametrize(
    "text",
    [
        "متى بُني برج إيفل؟",
        "東京はどこですか",
        "🗼?",
        "e\u0301te\u0301?",
        "a\u200bb?",
        "x" * LONGEST_TEXT,
        "<|im_end|>",
        "\u202eabc",
    ],
)
def test_every_other_text_is_kept_as_it_is(text: str, tmp_path: Path) -> None:
    question, _ = read_row(tmp_path, question=text, answers=[text, "b", text], context=text)
    assert question is not None
    assert (question.text, question.answers, question.context) == (text, (text, "b"), text)


@pytest.mark.parametrize("column", ["answers", "answer"])
def test_a_single_answer_may_be_a_text(column: str, tmp_path: Path) -> None:
    question, _ = read_row(tmp_path, question="a?", **{column: "a"})
    assert question is not None
    assert question.answers == ("a",)


@pytest.mark.parametrize(("given", "id_"), [("q-1", "q-1"), (7, "7"), (0, "0")])
def test_ids_are_kept_as_texts(given: str | int, id_: str, tmp_path: Path) -> None:
    question, _ = read_row(tmp_path, question="a?", answers=["a"], id=given, group=given)
    assert question is not None
    assert (question.id, question.group) == (id_, id_)


def test_an_id_that_is_missing_is_the_hash_of_the_content(tmp_path: Path) -> None:
    ids = set()
    for row in ({"question": "a b?"}, {"question": " a  b?\n", "id": ""}, {"question": "a b?", "id": None, "context": " "}):
        question, _ = read_row(tmp_path, answers=["x"], **row)
        assert question is not None
        ids.add(question.id)
    assert len(ids) == 1
    question, _ = read_row(tmp_path, question="a b?", answers=["x"], context="c")
    assert question is not None
    assert question.id not in ids


@given(
    row=st.dictionaries(
        st.sampled_from(["question", "answers", "id", "context", "group"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()), st.lists, max_leaves=4
        ),
    )
)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_json_row_is_a_question_or_counted(row: dict[str, Any], tmp_path: Path) -> None:
    question, dropped = read_row(tmp_path, **row)
    assert (question is None) == (sum(dropped.values()) == 1)


def write_parquet(path: Path, **columns: Any) -> None:
    pq.write_table(pa.table(columns), path)


def test_parquet_reads_like_json_lines(tmp_path: Path) -> None:
    columns = {"question": ["a?", None, "c?"], "answers": [["a", "b"], ["b"], None], "id": [1, 2, 3]}
    write_parquet(tmp_path / "train.parquet", **columns)
    write_parquet(tmp_path / "taught.parquet", question=["t?"], answers=[["t"]])
    write_parquet(tmp_path / "validation.parquet", question=["v?"], answers=["v"])
    train, validation, dropped = read_folder(tmp_path, "strict")
    dataset = tmp_path.name
    assert train[0] == Question(id="1", text="a?", answers=("a", "b"), dataset=dataset, split=Split.TRAIN)
    assert [question.text for question in train] == ["a?", "t?"]
    assert [question.split for question in validation] == [Split.VALIDATION]
    assert dropped == {"no question text": 1, "no answer": 1}


def test_parquet_without_the_columns_or_no_parquet_at_all_is_refused(tmp_path: Path) -> None:
    write_parquet(tmp_path / "validation.parquet", question=["v?"], answers=["v"])
    write_parquet(tmp_path / "train.parquet", prompt=["a?"], answers=["a"])
    expect_refusal("1 x no question text", tmp_path)
    whole = (tmp_path / "train.parquet").read_bytes()
    for content in (whole[:-20], whole[:4] + b"\0" * 40 + whole[44:], b"no parquet", b""):
        (tmp_path / "train.parquet").write_bytes(content)
        expect_refusal("train.parquet cannot be read as Parquet", tmp_path, "lenient")


def test_missing_and_ambiguous_files_are_refused(tmp_path: Path) -> None:
    expect_refusal("is no folder", tmp_path / "nowhere")
    expect_refusal("0 files named train.parquet or train.jsonl or train.jsonl.gz", tmp_path)
    (tmp_path / "train.jsonl").write_bytes(GOOD)
    expect_refusal("0 files named validation", tmp_path)
    (tmp_path / "validation.jsonl").write_bytes(OTHER)
    assert len(read_folder(tmp_path, "strict")[0]) == 1
    write_parquet(tmp_path / "train.parquet", question=["a?"], answers=["a"])
    expect_refusal("2 files named train", tmp_path)
