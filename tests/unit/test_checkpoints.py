"""Checkpoints that count only when complete, whatever moment their writer dies at."""

from __future__ import annotations

import json
import logging
import os
import random
import signal
import time
from pathlib import Path

import pytest

from know_thyself.learning.checkpoints import COMPLETE, QUARANTINE, checkpoint_folder, newest, remove_sealed, seal, step_of

KILLS = 50


def write(root: Path, step: int, size: int = 4096) -> Path:
    folder = checkpoint_folder(root, step)
    for number in range(3):
        (folder / f"{number:05}.safetensors").write_bytes(bytes([(step + number) % 256]) * size)
    seal(folder)
    return folder


def test_the_newest_is_resumed_and_the_newest_two_are_kept(tmp_path: Path) -> None:
    assert newest(tmp_path) is None
    for step in (2, 4, 10):
        write(tmp_path, step)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-10", "step-4"]
    found = newest(tmp_path)
    assert found is not None
    assert step_of(found) == 10
    remove_sealed(tmp_path)
    assert list(tmp_path.iterdir()) == []


def cut(folder: Path) -> None:
    os.truncate(folder / "00001.safetensors", 100)


def flip(folder: Path) -> None:
    file = folder / "00001.safetensors"
    file.write_bytes(b"x" + file.read_bytes()[1:])


def lose(folder: Path) -> None:
    (folder / "00001.safetensors").unlink()


def unmark(folder: Path) -> None:
    (folder / COMPLETE).unlink()


def empty(folder: Path) -> None:
    (folder / COMPLETE).write_text("{}")


def garble(folder: Path) -> None:
    (folder / COMPLETE).write_text(json.dumps({"00001.safetensors": None}))


@pytest.mark.parametrize("damage", [cut, flip, lose, unmark, empty, garble])
def test_a_torn_checkpoint_is_set_aside_with_one_line_and_the_one_before_it_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: object
) -> None:
    write(tmp_path, 2)
    torn = write(tmp_path, 4)
    assert callable(damage)
    damage(torn)
    content = sorted(path.name for path in torn.iterdir())
    with caplog.at_level(logging.WARNING):
        found = newest(tmp_path)
    assert found is not None
    assert step_of(found) == 2
    aside = tmp_path / QUARANTINE / "step-4.1"
    assert sorted(path.name for path in aside.iterdir()) == content, "nothing of it may be deleted"
    assert len(caplog.records) == 1
    assert "step-4" in caplog.text
    assert newest(tmp_path) == found


def test_what_was_set_aside_twice_is_kept_twice(tmp_path: Path) -> None:
    for _ in range(2):
        unmark(write(tmp_path, 4))
        assert newest(tmp_path) is None
    assert sorted(path.name for path in (tmp_path / QUARANTINE).iterdir()) == ["step-4.1", "step-4.2"]


def test_a_half_written_folder_of_an_earlier_attempt_does_not_stop_the_next(tmp_path: Path) -> None:
    torn = checkpoint_folder(tmp_path, 4)
    (torn / "00009.safetensors").write_bytes(b"left over")
    assert newest(tmp_path) is None
    assert not (write(tmp_path, 4) / "00009.safetensors").exists()


def keep_writing(root: Path, after: int, log: int) -> None:
    """Write one checkpoint after the other and tell `log` of each that is complete, until killed."""
    step = after
    while True:
        step += 1
        write(root, step, size=50_000)
        os.write(log, f"{step}\n".encode())


def test_a_writer_killed_at_any_time_never_costs_a_complete_checkpoint(tmp_path: Path) -> None:
    chance, complete, torn = random.Random(0), 0, 0
    for _ in range(KILLS):
        found = newest(tmp_path)
        resumed = step_of(found) if found else 0
        assert resumed >= complete, "a complete checkpoint was lost"
        reader, log = os.pipe()
        writer = os.fork()
        if writer == 0:
            try:
                keep_writing(tmp_path, resumed, log)
            finally:
                os._exit(1)
        os.close(log)
        with os.fdopen(reader) as lines:
            began = time.monotonic()
            told = [int(lines.readline())]
            # Somewhere within the next one or two, however fast the machine is.
            time.sleep(chance.uniform(0.0, 2.0) * (time.monotonic() - began))
            os.kill(writer, signal.SIGKILL)
            os.waitpid(writer, 0)
            told += [int(line) for line in lines.read().splitlines()]
        complete = max(told)
        torn = sum(1 for _ in tmp_path.glob(f"{QUARANTINE}/*"))
    assert complete > 0
    assert torn > 0, "no kill fell into a checkpoint: the test shows nothing"
