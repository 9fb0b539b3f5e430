"""The accepted answers that a grading worker looks up: each question's own, however its id is spelled."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from know_thyself.stages.grading import Answers

IDS = [*(f"q{number}" for number in range(200)), "", "é", "東京", "🗼", "\U00010000", "\uffff", "Q1", "q 1"]


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    shuffled = random.Random(0).sample(IDS, len(IDS))
    paths = [tmp_path / f"part-{number}.parquet" for number in range(2)]
    for path, ids in zip(paths, (shuffled[:90], shuffled[90:]), strict=True):
        pq.write_table(pa.table({"id": ids, "answers": [[name, f"of {name}"] for name in ids]}), path)
    return paths


def test_each_question_has_its_own_answers(parts: list[Path]) -> None:
    answers = Answers(parts)
    assert {name: answers[name] for name in IDS} == {name: [name, f"of {name}"] for name in IDS}


@pytest.mark.parametrize("unknown", ["q200", "a", "zz", "\U0010ffff"])
def test_an_unknown_question_has_none(parts: list[Path], unknown: str) -> None:
    with pytest.raises(KeyError, match=re.escape(repr(unknown))):
        Answers(parts)[unknown]
