"""Workers that learn together without Ray: processes with a gloo group of their own on this machine."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
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
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import LabelMode, PromptStyle, Question, Verdict

RATE = {"lora": 5e-3, "full": 5e-4}
STEPS_A_PASS = 3
STEPS = 2 * STEPS_A_PASS


def questions_of(world: Path) -> list[Question]:
    """The validation questions of a world."""
    rows = pq.read_table(world / "questions" / "validation.parquet").to_pylist()
    return [Question(id=row["id"], text=row["question"], answers=tuple(row["answers"])) for row in rows]


def settings(tuning: str, **changes: object) -> TrainConfig:
    """22 examples in batches of 8, twice over, are 6 steps with a short batch in each pass."""
    fields = {"batch_size": 8, "micro_batch_size": 2, "passes": 2, "epochs": 2, "checkpoint_every": 2, "zero_stage": 2}
    return TrainConfig.model_validate({**fields, "learning_rate": RATE[tuning], **changes})


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


class Bench:
    """Lessons about the same questions, each in a folder of its own."""

    def __init__(self, base: Path, questions: Sequence[Question], scratch: Path) -> None:
        self.base, self.questions, self.scratch = base, questions, scratch

    def lesson(self, name: str, config: TrainConfig, mode: LabelMode = LabelMode.BINARY, **changes: Any) -> Lesson:
        """A lesson in the new folder `name`, in which the verdicts of `mode` take turns."""
        folder, verdicts = self.scratch / name, len(VERDICT_WORDS[mode])
        folder.mkdir(parents=True)
        targets = [[float(place == (i + 1) % verdicts) for place in range(verdicts)] for i in range(len(self.questions))]
        rows = [
            {**question.to_row(), "target": target, "weight": 1.0 + i % 3}
            for i, (question, target) in enumerate(zip(self.questions, targets, strict=True))
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / EXAMPLES)
        return lesson_in(folder, self.base, config, mode=mode, **changes)

    def teach(
        self, room: Classroom, name: str, tuning: str, *, told: Mapping[str, Any] | None = None, **changes: Any
    ) -> Lesson:
        """The lesson `name`, taught; `changes` are to its settings, `told` is the rest of it."""
        lesson = self.lesson(name, settings(tuning, workers=room.workers, **changes), tuning=tuning, **(told or {}))
        room.teach(lesson)
        assert len(losses(self.scratch / name)) == STEPS_A_PASS * lesson.config.passes
        return lesson

    def resume(self, room: Classroom, name: str, after: Lesson, **changes: Any) -> Lesson:
        """The lesson `after`, gone on from its checkpoint after two steps, by the workers of `room`, under `changes`."""
        config = after.config.model_copy(update={"workers": room.workers, **changes})
        lesson = self.lesson(name, config, after.mode, tuning=after.tuning)
        take_checkpoint(Path(after.folder), 2, Path(lesson.folder))
        room.teach(lesson)
        assert len(losses(Path(lesson.folder))) == STEPS - 2
        return lesson


def lesson_in(folder: Path, base: Path, config: TrainConfig, **changes: Any) -> Lesson:
    """The lesson whose examples are in `folder`."""
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


def teach_one_verdict(lesson: Lesson, verdict: Verdict) -> None:
    """Change the examples of `lesson`, not taught yet, to questions that all deserve `verdict`."""
    file = Path(lesson.folder) / EXAMPLES
    target = [float(named is verdict) for named in VERDICT_WORDS[lesson.mode]]
    pq.write_table(pa.Table.from_pylist([{**row, "target": target} for row in pq.read_table(file).to_pylist()]), file)


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
