"""The experiment folder: what is committed is whole, what is torn does not count, and one process writes at a time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from know_thyself.config import NAME_PATTERN, DataConfig, EngineConfig, RunConfig, TrainConfig
from know_thyself.errors import ConfigError, StageError, StoreError
from know_thyself.experiment import (
    MARKER,
    Experiment,
    StageFolder,
    experiment_name,
    experiments_root,
    find_experiment,
    write_experiment,
)
from know_thyself.types import StageDone

ROWS = [{"id": "b", "value": 2.0}, {"id": "a", "value": 1.0}]
HOLD = """
import sys
from pathlib import Path
from know_thyself.config import RunConfig
from know_thyself.experiment import write_experiment
with write_experiment(RunConfig(experiments_root=Path(sys.argv[1]), name="one")):
    print("held", flush=True)
    sys.stdin.read()
"""


def committed(experiment: Experiment, rows: list[dict[str, Any]], parents: list[StageDone], **settings: Any) -> StageFolder:
    folder = experiment.stage("table", settings, parents)
    add_part(folder, 0, rows)
    folder.commit_table(num_in=len(rows), num_dropped={}, began=0.0)
    return folder


def add_part(folder: StageFolder, number: int, rows: list[dict[str, Any]]) -> None:
    folder.path.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows), folder.path / f"part-{number}.parquet")


def done(folder: StageFolder) -> StageDone:
    found = folder.done()
    assert found is not None
    return found


def config(root: Path, name: str | None = "one", **settings: Any) -> RunConfig:
    return RunConfig(experiments_root=root, name=name, **settings)


def test_a_stage_is_named_by_its_settings_and_its_parents_content_alone(tmp_path: Path) -> None:
    here, there = Experiment(tmp_path / "here", 1), Experiment(tmp_path / "there", 2)
    parent = committed(here, ROWS, [], seed=1)
    other_recipe = committed(there, ROWS[::-1], [], seed=2)
    other_content = committed(there, ROWS[:1], [], seed=3)
    child = here.stage("grade", {"a": 1, "b": [2]}, [done(parent)]).path.name
    assert there.stage("grade", {"b": [2], "a": 1}, [done(other_recipe)]).path.name == child
    different = [
        here.stage("grade", {"a": 1, "b": [2]}, [done(other_content)]),
        here.stage("grade", {"a": 1, "b": [3]}, [done(parent)]),
        here.stage("grade", {"a": 1, "b": [2]}, [done(parent), done(parent)]),
        here.stage("train", {"a": 1, "b": [2]}, [done(parent)]),
    ]
    assert len({child, *(folder.path.name for folder in different)}) == 5
    assert re.fullmatch(r"grade-[0-9a-f]{12}", child)


def test_a_stage_counts_only_once_its_marker_is_written_and_reads_in_the_order_of_ids(tmp_path: Path) -> None:
    folder = Experiment(tmp_path, 3).stage("table", {})
    assert folder.done() is None
    add_part(folder, 0, ROWS[:1])
    add_part(folder, 1, ROWS[1:])
    assert folder.done() is None
    marked = folder.commit_table(num_in=5, num_dropped={"too long": 3}, began=0.0)
    assert folder.done() == marked
    assert (marked.num_in, marked.num_out, marked.num_dropped, marked.attempt) == (5, 2, {"too long": 3}, 3)
    assert marked.versions["torch"]
    assert folder.read()["id"].to_pylist() == ["a", "b"]
    assert folder.read(["id"], ["b", "none of these"]).to_pylist() == [{"id": "b"}]


def _change(part: Path) -> None:
    content = part.read_bytes()
    part.write_bytes(content[:10] + bytes([content[10] ^ 1]) + content[11:])


def _marker(change: dict[str, Any]) -> Callable[[Path], None]:
    def apply(part: Path) -> None:
        marker = part.parent / MARKER
        marker.write_text(json.dumps(json.loads(marker.read_text()) | change))

    return apply


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "part lost": Path.unlink,
    "part changed": _change,
    "part shortened": lambda part: part.write_bytes(part.read_bytes()[:-1]),
    "part added": lambda part: shutil.copy(part, part.with_name("part-9.parquet")),
    "marker torn": lambda part: os.truncate(part.parent / MARKER, 40),
    "marker empty": lambda part: os.truncate(part.parent / MARKER, 0),
    "marker of another shape": lambda part: (part.parent / MARKER).write_text("[]"),
    "marker with parts of another shape": _marker({"parts": {"part-0.parquet": 7}}),
    "marker of other settings": _marker({"config_digest": "0"}),
    "marker of other parents": _marker({"inputs_digest": "0"}),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_stage_that_is_not_as_committed_is_refused_with_the_remedy(damage: Callable[[Path], Any], tmp_path: Path) -> None:
    folder = committed(Experiment(tmp_path, 1), ROWS, [])
    damage(folder.path / "part-0.parquet")
    with pytest.raises(StoreError, match=r"is not as it was committed: move .* away and run the same command again"):
        folder.done()


@pytest.mark.parametrize(
    ("parts", "num_in", "told"),
    [
        ([ROWS], 3, r"3 rows went in, 2 came out, \{\} were dropped"),
        ([ROWS], 1, "1 rows went in, 2 came out"),
        ([], 2, "2 rows went in, 0 came out"),
        ([ROWS, ROWS[:1]], 2, "1 rows of .* are doubled"),
        ([[*ROWS, ROWS[0]]], 3, "1 rows of .* are doubled"),
        ([[{"id": "a", "value": float("nan")}]], 1, "part-0.parquet cannot be read"),
    ],
)
def test_a_lost_doubled_or_unreadable_row_is_never_committed(
    parts: list[list[dict[str, Any]]], num_in: int, told: str, tmp_path: Path
) -> None:
    folder = Experiment(tmp_path, 1).stage("table", {})
    for number, rows in enumerate(parts):
        add_part(folder, number, rows)
    with pytest.raises(StageError, match=told):
        folder.commit_table(num_in=num_in, num_dropped={}, began=0.0)
    assert folder.done() is None


def test_a_torn_part_is_never_committed(tmp_path: Path) -> None:
    folder = Experiment(tmp_path, 1).stage("table", {})
    add_part(folder, 0, ROWS)
    os.truncate(folder.path / "part-0.parquet", 100)
    with pytest.raises(StageError, match=r"part-0\.parquet cannot be read") as caught:
        folder.commit_table(num_in=2, num_dropped={}, began=0.0)
    assert len(str(caught.value).splitlines()) == 1


def test_files_are_committed_by_their_bytes_and_relative_names(tmp_path: Path) -> None:
    folders = [Experiment(tmp_path / name, 1).stage("train", {}) for name in "ab"]
    for folder in folders:
        (folder.path / "adapter").mkdir(parents=True)
        (folder.path / "adapter" / "weights").write_bytes(b"same")
    marks = [folder.commit_files([folder.path / "adapter" / "weights"], num_in=4, began=0.0) for folder in folders]
    assert marks[0].content_digest == marks[1].content_digest
    assert list(marks[0].parts) == ["adapter/weights"]
    (folders[0].path / "adapter" / "weights").write_bytes(b"diff")
    with pytest.raises(StoreError, match="adapter/weights"):
        folders[0].done()


def test_one_writer_at_a_time_until_it_dies(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(StoreError, match="is being written by another process"), write_experiment(config(tmp_path)):
            pass
        with write_experiment(config(tmp_path, "two")) as other:
            assert other.attempt == 1
        holder.kill()
    with write_experiment(config(tmp_path)) as experiment:
        assert experiment.attempt == 2


def test_attempts_are_numbered_on_and_record_their_settings(tmp_path: Path) -> None:
    for seed in (5, 6):
        with write_experiment(config(tmp_path, seed=seed)) as experiment:
            (experiment.logs / "log").write_text(str(seed))
    shutil.rmtree(tmp_path / "one" / "logs" / "attempt_1")
    with write_experiment(config(tmp_path, seed=7)) as experiment:
        assert experiment.attempt == 3
    recorded = [json.loads(path.read_text())["seed"] for path in sorted(tmp_path.glob("one/logs/*/config.json"))]
    assert recorded == [6, 7]
    assert json.loads((tmp_path / "one" / "config.json").read_text())["seed"] == 7


def test_no_secret_of_the_environment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "planted-secret")
    with write_experiment(config(tmp_path)) as experiment:
        committed(experiment, ROWS, [])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) >= 5
    assert not any(b"planted-secret" in path.read_bytes() for path in files)


def test_latest_is_the_last_experiment_that_was_started(tmp_path: Path) -> None:
    for name in ("one", "two", "one"):
        with write_experiment(config(tmp_path, name)):
            pass
    assert find_experiment(tmp_path, "latest").name == "one"
    assert find_experiment(tmp_path, "two") == Experiment(tmp_path / "two")


@pytest.mark.parametrize(
    "name",
    ["three", "", ".", "..", "../one", "../root/one", "one/../one", "one/logs", "/etc", "one\n", "o\x00", "ｏne", "one" * 99],
)
def test_an_experiment_that_is_not_there_is_told_with_those_that_are(name: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    with write_experiment(config(root)):
        pass
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(StoreError, match=r"there is no experiment .*: choose one of one$"):
        find_experiment(root, name)


def test_latest_is_told_when_it_names_nothing_yet_or_leads_astray(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"no experiment in .* yet: run make demo first, or python -m jobs"):
        find_experiment(tmp_path, "latest")
    with write_experiment(config(tmp_path)):
        pass
    (tmp_path / "latest").write_text("../" + tmp_path.name + "/one")
    with pytest.raises(StoreError, match="there is no experiment"):
        find_experiment(tmp_path, "latest")


def test_a_relative_root_is_refused_inside_a_submitted_job_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert experiments_root(config(Path("experiments"))) == Path.cwd() / "experiments"
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    with pytest.raises(ConfigError, match=r"experiments-root=experiments is relative.*: give an absolute path"):
        experiments_root(config(Path("experiments")))
    assert experiments_root(config(Path("/experiments"))) == Path("/experiments")


def test_a_root_that_cannot_be_written_or_found_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="choose another --experiments-root"), write_experiment(config(tmp_path / "file")):
        pass
    with pytest.raises(ConfigError, match="experiments-root=~no-such-user/x"):
        experiments_root(config(Path("~no-such-user/x")))


def test_automatic_names_follow_what_decides_results_and_nothing_else(tmp_path: Path) -> None:
    def name(**settings: Any) -> str:
        return experiment_name(config(tmp_path, None, **settings))

    assert re.fullmatch(r"world_world_binary_lora_[0-9a-f]{8}", name())
    moved = EngineConfig(actors_max=4, device="cuda", batch_size=7, gpu_memory=0.5)
    assert name(engine=moved, train=TrainConfig(workers=2, micro_batch_size=4, zero_stage=1), address="auto") == name()
    others: list[dict[str, Any]] = [{"seed": 1}, {"data": DataConfig(num_train=9)}, {"train": TrainConfig(epochs=1)}]
    others += [{"engine": EngineConfig(backend="know_thyself.testing:FakeEngine")}, {"grader": "own:grade"}]
    assert len({name(), *(name(**other) for other in others)}) == 1 + len(others)
    for model in ("Qwen/Qwen2.5-7B-Instruct", "/a/" + "long" * 40, "/", "~/modèle (1)", "...", "-x-"):
        assert re.fullmatch(NAME_PATTERN, name(model=model, dataset=model)), model
