"""SIGKILL at every step of a write: what is found afterwards is the old state or the new one, and the same write goes on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from know_thyself.experiment import Experiment, StageFolder, write_whole
from know_thyself.judge import read_judge, write_judge
from know_thyself.testing import fake_card

TOUCHES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "os.utime", "os.chmod"}
"""Audit events of the calls that open or change files; `os.fsync` has none and is wrapped."""


@dataclass(frozen=True, slots=True)
class Write:
    """A write to kill: what makes the old state, what makes the new one of it, and what is found of either below a folder."""

    old: Callable[[Path], object]
    new: Callable[[Path], object]
    found: Callable[[Path], str]


def whole_file() -> Write:
    return Write(
        old=lambda root: write_whole(root / "summary.json", "old"),
        new=lambda root: write_whole(root / "summary.json", "new"),
        found=lambda root: (root / "summary.json").read_text(),
    )


def stage(root: Path) -> StageFolder:
    return Experiment(root, 1).stage("table", {})


def state_of_stage(root: Path) -> str:
    done = stage(root).done()
    return "old" if done is None else "new"


def put_tables(root: Path) -> None:
    stage(root).path.mkdir(parents=True)
    for number in range(3):
        pq.write_table(pa.table({"id": [f"{number}-{i}" for i in range(4)]}), stage(root).path / f"part-{number}.parquet")


def table() -> Write:
    commit = {"num_in": 12, "num_dropped": {}, "began": 0.0}
    return Write(put_tables, lambda root: stage(root).commit_table(**commit), state_of_stage)  # type: ignore[arg-type]


def put_files(root: Path) -> None:
    stage(root).path.mkdir(parents=True)
    for number in range(3):
        (stage(root).path / f"{number}.safetensors").write_bytes(bytes(100))


def files() -> Write:
    names = [f"{number}.safetensors" for number in range(3)]
    return Write(
        put_files,
        lambda root: stage(root).commit_files([stage(root).path / name for name in names], num_in=3, began=0.0),
        state_of_stage,
    )


def put_first_judge(root: Path) -> None:
    base, adapter = root / "base", root / "trained" / "adapter"
    for folder in (base, adapter):
        folder.mkdir(parents=True)
    (base / "tokenizer.json").write_text("{}")
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"\x02\0\0\0\0\0\0\0{}")
    put_judge(root, 1)


def put_judge(root: Path, epoch: int) -> None:
    card = fake_card(epoch=epoch, base=str(root / "base"))
    write_judge(root / "judge", card, root / "trained")


def state_of_judge(root: Path) -> str:
    return {1: "old", 2: "new"}[read_judge(root / "judge").epoch]


def judge() -> Write:
    return Write(put_first_judge, lambda root: put_judge(root, 2), state_of_judge)


def die_at(step: int) -> None:
    """Have this process send itself SIGKILL just before it touches the disk for the `step`th time from now on."""
    steps, sync = count(1), os.fsync

    def touched() -> None:
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def synced(fd: Any) -> None:
        touched()
        sync(fd)

    os.fsync = synced
    sys.addaudithook(lambda event, _: touched() if event in TOUCHES else None)


def killed(work: Callable[[], object], step: int) -> bool:
    """Run `work` in a process that dies at `step`; False when it came to its end before."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            die_at(step)
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    assert status in (0, signal.SIGKILL), "the write failed by itself"
    return status != 0


WRITES = {"write_whole": (whole_file, 5), "commit_table": (table, 12), "commit_files": (files, 12), "write_judge": (judge, 30)}
"""Each with a number of steps that it has at least; more than 50 in all."""


@pytest.mark.parametrize(("make", "least"), WRITES.values(), ids=WRITES)
def test_a_write_killed_at_any_step_leaves_the_old_or_the_new(
    make: Callable[[], Write], least: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("know_thyself.experiment.stage.versions", dict)  # reading them is most of the steps, and writes nothing
    write, found = make(), []
    for step in count(1):
        root = tmp_path / str(step)
        root.mkdir()
        write.old(root)
        if not killed(lambda root=root: write.new(root), step):  # type: ignore[misc]
            break
        found.append(write.found(root))
        if found[-1] == "old":
            write.new(root)
        assert write.found(root) == "new"
    assert set(found) == {"old", "new"}
    assert found == sorted(found, reverse=True), "once new, always new"
    assert len(found) >= least
