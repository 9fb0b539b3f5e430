"""A disk that fills up while a judge is trained: one line that says so and what to do, from whichever process met it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from ray.train import TrainingFailedError, WorkerGroupError

from know_thyself.errors import StageError, StoreError
from know_thyself.stages.training import _failed

WRITE_BEYOND_THE_LIMIT = """
import resource, signal, sys, torch
from pathlib import Path
from know_thyself.errors import StoreError
from know_thyself.learning.state import _Shards

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
shards = _Shards(Path(sys.argv[1]), steps=1)
shards.add({"weight.a": torch.zeros(10_000)})
try:
    shards.flush()
except StoreError as error:
    print(error)
"""


def test_a_state_that_finds_no_room_says_how_much_is_left(tmp_path: Path) -> None:
    written = subprocess.run(
        [sys.executable, "-c", WRITE_BEYOND_THE_LIMIT, str(tmp_path / "state")], capture_output=True, text=True, timeout=120
    )
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith(f"no space left for {tmp_path}/state/00001.safetensors (")
    assert "MiB free): make room and run the same command again" in written.stdout


def test_what_a_worker_found_to_tell_is_what_the_user_reads() -> None:
    full = StoreError("no space left for /x (0 MiB free): make room and run the same command again")
    assert _failed(WorkerGroupError("training failed", {1: RuntimeError("a peer is gone"), 0: full}), "train", "logs") is full


@pytest.mark.parametrize(
    "error", [TrainingFailedError("a worker died\nat length"), WorkerGroupError("", {0: ValueError("a worker died")})]
)
def test_any_other_failure_names_the_stage_and_its_logs(error: Exception) -> None:
    told = _failed(error, "train", "the/logs")
    assert isinstance(told, StageError)
    assert str(told) == "train: a worker died: see the/logs, and run the same command to go on"
