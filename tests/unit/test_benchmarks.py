"""What the benchmarks say is what they measured: ratios, targets, the file of results, and the pace of a stage."""

from __future__ import annotations

import importlib
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from joblib import cpu_count
from rich.console import Console

from benchmarks.__main__ import CASES
from benchmarks.asking import steady
from benchmarks.results import Row, keep, machine, show


def row(**changes: object) -> Row:
    fields = {"case": "sample", "size": "world", "against": "bare", "ours": 80.0, "theirs": 100.0, "unit": "questions/s"}
    return Row(**(fields | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("target", "less_is_better", "met"), [(0.8, False, True), (0.81, False, False), (0.8, True, True), (0.79, True, False)]
)
def test_a_target_is_met_from_its_side(target: float, less_is_better: bool, met: bool) -> None:
    assert row(target=target, less_is_better=less_is_better).met is met


def test_without_a_target_nothing_is_met_or_missed() -> None:
    assert row().record() | {"ratio": 0.8, "target": None, "met": None} == row().record()


def test_a_case_replaces_its_own_rows_alone(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    for case, ours in (("sample", 1.0), ("judge", 2.0), ("sample", 3.0)):
        keep(case, [row(case=case, ours=ours).record()], file)
    assert [(one["case"], one["ours"]) for one in json.loads(file.read_text())] == [("judge", 2.0), ("sample", 3.0)]


def test_the_table_shows_ratio_target_and_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    show([row(target=0.75).record(), row(ours=5.0, less_is_better=True, target=0.01).record()], Console(width=200))
    first, second = capsys.readouterr().out.splitlines()[1:]
    assert first.split()[-5:] == ["0.80", "at", "least", "0.75", "yes"]
    assert second.split()[-5:] == ["0.05", "at", "most", "0.01", "no"]


def test_the_machine_is_described() -> None:
    assert f"{cpu_count()} cores" in machine()


def write_blocks(folder: Path, moments: list[float]) -> list[Path]:
    parts = []
    for number, moment in enumerate(moments):
        parts.append(folder / f"part-{number}.parquet")
        pq.write_table(pa.table({"id": list(map(str, range(10)))}), parts[-1])
        os.utime(parts[-1], (moment, moment))
    return parts


def test_the_pace_leaves_out_the_start(tmp_path: Path) -> None:
    assert steady(write_blocks(tmp_path, [50.0, 51.0, 52.0])) == pytest.approx(0.1)
    assert steady(write_blocks(tmp_path, [50.0, 60.0, *range(61, 67)])) == pytest.approx(0.1)


def test_one_block_tells_no_pace(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no pace"):
        steady(write_blocks(tmp_path, [50.0]))


@pytest.mark.parametrize("case", CASES)
def test_each_case_is_a_module_with_one_run(case: str) -> None:
    module = importlib.import_module(f"benchmarks.{case}")
    assert case == module.CASE
    assert callable(module.run)
