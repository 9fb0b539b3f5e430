"""The loop of one epoch, as each worker runs it on the default process group."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.experiment.growing import flush, keep
from know_thyself.experiment.place import pull, push
from know_thyself.experiment.usage import Meter
from know_thyself.experiment.writing import storing, write_whole
from know_thyself.learning.checkpoints import newest, step_of
from know_thyself.learning.examples import Examples
from know_thyself.learning.keeping import Keeper, Notice, no_notice
from know_thyself.learning.lesson import ADAPTER, CHECKPOINTS, EXAMPLES, MODEL, PROGRESS, STATE, Lesson
from know_thyself.learning.objectives import example_of, objective_of
from know_thyself.learning.partition import deepspeed_session, start_deepspeed
from know_thyself.learning.schedule import FILL, order, rate, share_of
from know_thyself.learning.state import read_state, write_state
from know_thyself.learning.tuning import open_tuning
from know_thyself.models import bring

logger = logging.getLogger(__name__)


def learn(lesson: Lesson, notice: Notice = no_notice) -> None:
    """Run `lesson` from its newest checkpoint, or its parent's state, to its end; the result and the state are in its folder.

    All workers call it alike; on `notice` that they may be stopped, they keep what they have.
    """
    learn_on([lesson], notice)


def learn_on(lessons: Sequence[Lesson], notice: Notice = no_notice) -> None:
    """Run epochs one after the other without a pause, the first as `learn` does; the last one's folder gets the result."""
    first, last = lessons[0], lessons[-1]
    bring(Path(first.base))
    meter = Meter(Path(first.folder))
    chat = ChatTokenizer(first.base, first.trust_remote_code, first.prefill)
    with deepspeed_session(first) as settings:
        tuning = open_tuning(first)
        engine = start_deepspeed(objective_of(first, chat, tuning.causal), first, settings)
        step, steps = _resume(engine, first)
        for lesson in lessons:
            examples = _read_examples(lesson, chat)
            meter.tell("start")
            steps = _take_steps(engine, examples, Keeper(engine, lesson, notice), step, steps, meter)
            step = 0
        weights = write_state(engine, Path(last.folder) / STATE, steps)
        if torch.distributed.get_rank() == 0:
            with storing(Path(last.folder)):
                tuning.save(weights, Path(last.folder))
            push(Path(last.folder), *(f"{part}/*" for part in (STATE, ADAPTER, MODEL)))
        flush()
        torch.distributed.barrier()


def _read_examples(lesson: Lesson, chat: ChatTokenizer) -> Examples:
    rows = pq.read_table(pull(Path(lesson.folder), EXAMPLES) / EXAMPLES).to_pylist()
    return Examples([example_of(lesson, chat, row) for row in rows])


def _take_steps(engine: Any, examples: Examples, keeper: Keeper, step: int, steps: int, meter: Meter) -> int:
    """Take the steps of the epoch after the first `step`; `steps` of all epochs are behind, and what it returns afterwards."""
    lesson, lengths = keeper.lesson, np.array(examples.lengths)
    batches = list(order(examples.lengths, lesson.config, lesson.seed, lesson.epoch))
    for number, indices in list(enumerate(batches, start=1))[step:]:
        progress = (lesson.epoch - 1 + (number - 0.5) / len(batches)) / lesson.config.epochs
        lr = rate(progress, lesson.config)
        loss = take_step(engine, examples, indices, lr, (lesson.seed, lesson.epoch, number))
        share = _own_share(engine, indices)
        meter.tell("train", questions=int((share != FILL).sum()), read=int(lengths[share[share != FILL]].sum()))
        if torch.distributed.get_rank() == 0:
            _log_step(lesson, number, len(batches), loss, lr)
        if number < len(batches):
            keeper.keep(number, steps + number - step)
    return steps + len(batches) - step


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
    for number, part in enumerate(np.split(_own_share(engine, indices), count)):
        torch.manual_seed(int(np.random.SeedSequence((*place, rank, number)).generate_state(1)[0]))
        tokens, last, targets, weights = (tensor.to(engine.device) for tensor in examples.batch(part))
        losses = engine(tokens, last, targets) * weights
        engine.backward(losses.sum() * (workers * count / total))
        engine.step()
        summed += losses.sum().item()
    everyone = torch.tensor(summed, device=engine.device, dtype=torch.float64)
    torch.distributed.all_reduce(everyone)
    return float(everyone) / total


def _own_share(engine: Any, indices: NDArray[np.int64]) -> NDArray[np.int64]:
    """The part of the global batch `indices` that this worker computes, with a `FILL` where it has a place too many."""
    places = engine.gradient_accumulation_steps() * engine.train_micro_batch_size_per_gpu()
    return share_of(indices, torch.distributed.get_rank(), torch.distributed.get_world_size(), places)


def _resume(engine: Any, lesson: Lesson) -> tuple[int, int]:
    """Put back where the lesson goes on from: steps of this epoch behind it, and steps of all epochs."""
    found: list[str | None] = [None]
    checkpoints = Path(lesson.folder) / CHECKPOINTS
    if torch.distributed.get_rank() == 0:
        checkpoint = newest(checkpoints)
        found = [checkpoint.name if checkpoint else None]
    torch.distributed.broadcast_object_list(found)
    if found[0] is None:
        step, state = 0, Path(lesson.parent) / STATE if lesson.parent else None
    else:
        state = checkpoints / found[0]
        step = step_of(state)
    steps = read_state(engine, state and pull(state))
    if torch.distributed.get_rank() == 0:
        logger.info("%d workers: epoch %d begins after step %d", torch.distributed.get_world_size(), lesson.epoch, step)
        _cut_log(pull(Path(lesson.folder), PROGRESS) / PROGRESS, step)
    return step, steps


def _log_step(lesson: Lesson, step: int, steps: int, loss: float, lr: float) -> None:
    log = Path(lesson.folder) / PROGRESS
    with storing(log), log.open("a") as file:
        file.write(json.dumps({"step": step, "steps": steps, "loss": round(loss, 8), "rate": lr}) + "\n")


def _cut_log(log: Path, step: int) -> None:
    """Keep of `log` the lines of the first `step` steps: those after will be taken again."""
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    write_whole(log, "".join(lines[:step]))
    keep(log)
