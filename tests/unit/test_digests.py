"""Digests: equal for equal content, different for any other."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from know_thyself.digests import digest_file, digest_files, digest_json, digest_list, digest_rows

ROWS = st.lists(st.dictionaries(st.text(max_size=3), st.integers() | st.text() | st.none(), max_size=3), max_size=6)


def test_the_order_of_keys_does_not_matter_but_everything_else_does() -> None:
    assert digest_json({"a": 1, "b": 2}) == digest_json({"b": 2, "a": 1})
    different: list[Any] = [{"a": 1}, {"a": "1"}, {"a": 1.5}, {"a": None}, {"a": [1]}, {"b": 1}, [{"a": 1}], None, "\ud800"]
    assert len({digest_json(value) for value in different}) == len(different)


def test_numbers_that_are_none_are_refused() -> None:
    with pytest.raises(ValueError, match="JSON"):
        digest_json(float("nan"))


@given(rows=ROWS, data=st.data())
@settings(max_examples=25, deadline=None)
def test_rows_digest_alike_in_any_order_and_in_any_parts(rows: list[dict[str, Any]], data: st.DataObject) -> None:
    shuffled = data.draw(st.permutations(rows))
    cut = data.draw(st.integers(0, len(rows)))
    whole = digest_rows(rows)
    assert digest_rows(shuffled[cut:], digest_rows(shuffled[:cut])) == whole
    assert len(whole) == 64
    assert digest_rows([*rows, {"one": "more"}]) != whole


@given(rows=ROWS)
@settings(max_examples=25, deadline=None)
def test_a_list_digests_alike_one_value_at_a_time(rows: list[dict[str, Any]]) -> None:
    assert digest_list(iter(rows)) == digest_json(rows)


def test_a_doubled_row_does_not_cancel_out() -> None:
    row = {"id": "a"}
    assert len({digest_rows([row] * count) for count in range(4)}) == 4


def test_files_digest_by_name_and_bytes(tmp_path: Path) -> None:
    for name, text in (("config.json", "{}"), ("a.safetensors", "weights"), ("notes.txt", "any")):
        (tmp_path / name).write_text(text)
    patterns = ("*.safetensors", "config.json")
    before = digest_files(tmp_path, patterns)
    assert digest_file(tmp_path / "config.json") == hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "notes.txt").write_text("other")
    assert digest_files(tmp_path, [*patterns, "*.json"]) == before
    (tmp_path / "a.safetensors").rename(tmp_path / "b.safetensors")
    assert digest_files(tmp_path, patterns) != before
