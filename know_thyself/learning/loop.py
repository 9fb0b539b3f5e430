"""The loop of one epoch, as each worker runs it on the default process group."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.learning.checkpoints import checkpoint_folder, newest, seal, step_of
from know_thyself.learning.examples import Examples
from know_thyself.learning.lesson import CHECKPOINTS, EXAMPLES, PROGRESS, STATE, Lesson
from know_thyself.learning.objectives import judge_example, judge_objective
from know_thyself.learning.partition import deepspeed_session, start_engine
from know_thyself.learning.schedule import order, rate, share_of
from know_thyself.learning.state import read_state, write_state
from know_thyself.learning.tuning import open_tuning

logger = logging.getLogger(__name__)


def learn(lesson: Lesson) -> None:
    """Run `lesson` from its newest checkpoint, or its parent's state, to its end; the result and the state are in its folder.

    All `train.workers` workers call it alike.
    """
    chat = ChatTokenizer(lesson.base, lesson.trust_remote_code, lesson.prefill)
    rows = pq.read_table(Path(lesson.folder) / EXAMPLES).to_pylist()
    examples = Examples([judge_example(lesson, chat, row) for row in rows])
    with deepspeed_session(lesson) as settings:
        tuning = open_tuning(lesson)
        engine = start_engine(judge_objective(lesson, chat, tuning.causal), lesson, settings)
        steps = run_epoch(engine, examples, lesson)
        weights = write_state(engine, Path(lesson.folder) / STATE, steps)
        if torch.distributed.get_rank() == 0:
            tuning.save(weights, Path(lesson.folder))
        torch.distributed.barrier()


def run_epoch(engine: Any, examples: Examples, lesson: Lesson) -> int:
    """Take all steps of the epoch that no checkpoint has behind it; the optimiser's steps over all epochs at its end."""
    root = Path(lesson.folder) / CHECKPOINTS
    behind = _resume(engine, lesson, root)
    batches = list(order(examples.lengths, lesson.config, lesson.seed, lesson.epoch))
    before = behind[1] - behind[0]
    for step, indices in list(enumerate(batches, start=1))[behind[0] :]:
        progress = (lesson.epoch - 1 + (step - 0.5) / len(batches)) / lesson.config.epochs
        lr = rate(progress, lesson.config)
        loss = take_step(engine, examples, indices, lr, (lesson.seed, lesson.epoch, step))
        if torch.distributed.get_rank() == 0:
            _log_step(lesson, step, len(batches), loss, lr)
        every = lesson.config.checkpoint_every
        if every and step % every == 0 and step < len(batches):
            _write_checkpoint(engine, root, step, before + step)
    return before + len(batches)


def take_step(engine: Any, examples: Examples, indices: NDArray[np.int64], lr: float, place: tuple[int, int, int]) -> float:
    """One optimiser step on the global batch `indices`; the weighted mean loss over it.

    `place` (seed, epoch, step) decides whatever chance has a part in, together with the worker and its forward pass.
    """
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    rank, workers = torch.distributed.get_rank(), torch.distributed.get_world_size()
    total = float(examples.weights_of(indices).sum())
    count = engine.gradient_accumulation_steps()
    summed = 0.0
    for number, part in enumerate(np.split(share_of(indices, rank, workers), count)):
        torch.manual_seed(int(np.random.SeedSequence((*place, rank, number)).generate_state(1)[0]))
        tokens, last, targets, weights = (tensor.to(engine.device) for tensor in examples.batch(part))
        losses = engine(tokens, last, targets) * weights
        engine.backward(losses.sum() * (workers * count / total))
        engine.step()
        summed += losses.sum().item()
    everyone = torch.tensor(summed, device=engine.device, dtype=torch.float64)
    torch.distributed.all_reduce(everyone)
    return float(everyone) / total


def _resume(engine: Any, lesson: Lesson, root: Path) -> tuple[int, int]:
    """Put back where the lesson goes on from: steps of this epoch behind it, and steps of all epochs."""
    found: list[Path | None] = [None]
    if torch.distributed.get_rank() == 0:
        found = [newest(root)]
    torch.distributed.broadcast_object_list(found)
    checkpoint = found[0]
    if checkpoint is None:
        step, state = 0, Path(lesson.parent) / STATE if lesson.parent else None
    else:
        step, state = step_of(checkpoint), checkpoint
    steps = read_state(engine, state)
    if torch.distributed.get_rank() == 0:
        logger.info("epoch %d begins after step %d", lesson.epoch, step)
        _cut_log(Path(lesson.folder) / PROGRESS, step)
    return step, steps


def _write_checkpoint(engine: Any, root: Path, step: int, steps: int) -> None:
    """Write the state after `step` steps of the epoch, `steps` of all, and vouch for it. All workers must call."""
    is_writer = torch.distributed.get_rank() == 0
    folder = checkpoint_folder(root, step) if is_writer else root
    write_state(engine, folder, steps)
    if is_writer:
        seal(folder)


def _log_step(lesson: Lesson, step: int, steps: int, loss: float, lr: float) -> None:
    with (Path(lesson.folder) / PROGRESS).open("a") as file:
        file.write(json.dumps({"step": step, "steps": steps, "loss": round(loss, 8), "rate": lr}) + "\n")


def _cut_log(log: Path, step: int) -> None:
    """Keep of `log` the lines of the first `step` steps: those after will be taken again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    log.write_text("".join(lines[:step]))
