"""Train: one epoch of training, of the judgment or of knowledge, as a stage, its workers run by Ray Train.

A worker or the driver may be lost at any time: the workers start again by themselves, the driver by the same command, and both
go on from the newest checkpoint inside the epoch. Where `train.workers` is a range, Ray starts as many of them as there is room
for: fewer when a node goes, more when one comes. What a worker does is `know_thyself.learning`'s.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray
import torch
from ray.train import RunConfig, WorkerGroupError
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.config import FailureConfig, ScalingConfig

from know_thyself.compute.notice import RESIZE_EVERY, Outlook
from know_thyself.compute.room import device_kind
from know_thyself.compute.session import interruptible, quiet_worker
from know_thyself.errors import KnowThyselfError, StageError, first_line
from know_thyself.experiment import StageFolder
from know_thyself.experiment.place import address, pull, received, sent
from know_thyself.learning.checkpoints import remove_sealed
from know_thyself.learning.lesson import ADAPTER, CHECKPOINTS, EXAMPLES, MODEL, PROGRESS, STATE, Lesson
from know_thyself.learning.tuning import RESULTS, result_files
from know_thyself.types import StageDone

__all__ = ["ADAPTER", "EXAMPLES", "MODEL", "PROGRESS", "STAGES", "Lesson", "train"]

STAGES = {"judgment": "train", "knowledge": "teach"}
"""The name of the stage that teaches each."""
NO_LIMIT = -1
"""To Ray: as often as need be."""


def train(folder: StageFolder, lesson: Lesson) -> StageDone:
    """Train `lesson` on the examples put into `folder`, and commit what was learned and the state to go on from.

    Raises `StageError` when the workers keep failing.
    """
    began = time.monotonic()
    num_examples = pq.read_metadata(folder.path / EXAMPLES).num_rows
    try:
        with interruptible():
            _trainer(folder, lesson).fit()
    except ray.train.TrainingFailedError as error:
        raise _failed(error, folder.stage, address(lesson.logs)) from error
    pull(folder.path, PROGRESS, f"{STATE}/*", f"{RESULTS[lesson.tuning]}/*")
    files = [*result_files(lesson), *sorted((folder.path / STATE).iterdir())]
    done = folder.commit_files(files, num_in=num_examples, began=began)
    remove_sealed(folder.path / CHECKPOINTS)
    return done


def _failed(error: Exception, stage: str, logs: str) -> KnowThyselfError:
    """What the `error` of Ray Train means to a user: what a worker found to tell, such as a full disk, or what failed."""
    failures = list(error.worker_failures.values()) if isinstance(error, WorkerGroupError) else []
    told = next((failure for failure in failures if isinstance(failure, KnowThyselfError)), None)
    cause = failures[0] if failures else error
    return told or StageError(stage, f"{first_line(cause)}: see {logs}, and run the same command to go on")


def _trainer(folder: StageFolder, lesson: Lesson) -> TorchTrainer:
    on_gpu, config = lesson.device == "cuda", lesson.config
    return TorchTrainer(
        _work,
        train_loop_config={"lesson": sent(lesson)},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=(config.workers_min, config.workers_max) if config.is_elastic else config.workers_max,
            elastic_resize_monitor_interval_s=RESIZE_EVERY,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if on_gpu else {"CPU": lesson.cores},
        ),
        run_config=RunConfig(
            name="ray",
            storage_path=str(folder.path / "_train"),
            failure_config=FailureConfig(
                max_failures=config.failures,
                max_preemption_failures=NO_LIMIT if config.preemptions is None else config.preemptions,
            ),
        ),
    )


def _work(arguments: dict[str, Any]) -> None:
    """What one worker does; the driver and Ray Train's controller need not import what learns, and start sooner."""
    from know_thyself.learning.loop import learn

    lesson: Lesson = received(arguments["lesson"])
    rank = ray.train.get_context().get_world_rank()
    quiet_worker(Path(lesson.logs) / f"{STAGES[lesson.teaches]}-epoch{lesson.epoch}-rank{rank}.log")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", force=True)
    if lesson.device == "cpu":
        torch.set_num_threads(lesson.cores)
    learn(lesson, Outlook(lesson.config.workers_max, device_kind(lesson.device)))
