"""Workers that learn together without Ray: processes with a gloo group of their own on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors.torch import load_file

from know_thyself.config import TrainConfig
from know_thyself.learning.lesson import CHECKPOINTS, EXAMPLES, PROGRESS, Lesson
from know_thyself.learning.loop import learn_on
from know_thyself.learning.tuning import result_files
from know_thyself.types import LabelMode, PromptStyle, Question


class Classroom:
    """`workers` processes, each of one rank for as long as the room is open.

    A process has one default process group, and vLLM's engine holds that of the tests: so it is none of theirs.
    """

    def __init__(self, workers: int, scratch: Path) -> None:
        self.workers = workers
        self._pools = [ProcessPoolExecutor(1, mp_context=get_context("spawn")) for _ in range(workers)]
        self._all(_enter, str(scratch / f"store-{workers}"), workers)

    def teach(self, *lessons: Lesson) -> None:
        """Have all workers learn `lessons`, one epoch after the other without a pause."""
        self._all(_learn, lessons)

    def close(self) -> None:
        """Let the workers go."""
        for pool in self._pools:
            pool.shutdown()

    def _all(self, work: Any, *arguments: Any) -> None:
        for future in [pool.submit(work, rank, *arguments) for rank, pool in enumerate(self._pools)]:
            future.result(timeout=400)


def _enter(rank: int, store: str, workers: int) -> None:
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(workers), "LOCAL_RANK": str(rank)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "GLOO_SOCKET_IFNAME": "lo"}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=workers)


def _learn(rank: int, lessons: Sequence[Lesson]) -> None:
    learn_on(lessons)


def lesson_in(folder: Path, base: Path, questions: Sequence[Question], config: TrainConfig, **changes: Any) -> Lesson:
    """A lesson in the new `folder` that teaches `questions`, every other of which can be answered."""
    folder.mkdir(parents=True)
    rows = [
        {**question.to_row(), "target": [float(i % 2), float(1 - i % 2)], "weight": 1.0 + i % 3}
        for i, question in enumerate(questions)
    ]
    pq.write_table(pa.Table.from_pylist(rows), folder / EXAMPLES)
    fields: dict[str, Any] = {
        "base": str(base),
        "folder": str(folder),
        "parent": None,
        "config": config,
        "tuning": "lora",
        "style": PromptStyle.SYSTEM,
        "mode": LabelMode.BINARY,
        "seed": 5,
        "epoch": 1,
        "device": "cpu",
        "cores": 1,
        "logs": str(folder),
        "trust_remote_code": False,
        "prefill": None,
        "deepspeed": {},
    }
    return Lesson(**fields | changes)


def teach_that_all_can(lesson: Lesson) -> None:
    """Change the examples of `lesson`, not taught yet, to questions that can all be answered."""
    file = Path(lesson.folder) / EXAMPLES
    pq.write_table(pa.Table.from_pylist([{**row, "target": [1.0, 0.0]} for row in pq.read_table(file).to_pylist()]), file)


def take_checkpoint(source: Path, step: int, target: Path) -> None:
    """Give the lesson folder `target` the checkpoint of `step` of `source`, as if its workers had died after it."""
    shutil.copytree(source / CHECKPOINTS / f"step-{step}", target / CHECKPOINTS / f"step-{step}")


def losses(folder: Path) -> list[float]:
    """The loss of each step."""
    lines = [json.loads(line) for line in (folder / PROGRESS).read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(lines[0]["step"], lines[0]["step"] + len(lines)))
    return [line["loss"] for line in lines]


def learned(lesson: Lesson) -> dict[str, torch.Tensor]:
    """The weights that `lesson` left for others to load."""
    shards = [load_file(file) for file in result_files(lesson) if file.suffix == ".safetensors"]
    return {name: tensor for shard in shards for name, tensor in shard.items()}


def curve_distance(left: Sequence[float], right: Sequence[float]) -> float:
    """The largest difference between the losses of two runs of as many steps."""
    return max(abs(a - b) for a, b in zip(left, right, strict=True))


def distance(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest difference between two sets of the same weights."""
    assert left.keys() == right.keys()
    return max(float((left[name] - right[name]).abs().max()) for name in left)
