"""What an epoch hands to the next: adapter, moments and step, so that going on equals never having stopped."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from know_thyself import prompts
from know_thyself.config import TrainConfig
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.stages.training import (
    ADAPTER,
    Examples,
    Lesson,
    VerdictReader,
    adapted_model,
    order,
    restore_state,
    save_state,
    start_deepspeed,
    take_step,
)
from know_thyself.types import LabelMode, PromptStyle, Question
from tests.engine.reading import WORDS

CONFIG = TrainConfig(batch_size=8, micro_batch_size=4, learning_rate=1e-2, epochs=2)


def teach(lesson: Lesson, questions: list[Question], batches: list[np.ndarray]) -> dict[str, torch.Tensor]:
    """The adapter after `batches`, going on from the lesson's parent."""
    chat = ChatTokenizer(lesson.base)
    examples = Examples(
        prompts=[chat.encode(prompts.judge_messages(question, lesson.style, lesson.mode)) for question in questions],
        targets=torch.tensor([[i % 2, 1 - i % 2] for i in range(len(questions))], dtype=torch.float32),
        weights=torch.ones(len(questions)),
    )
    engine = start_deepspeed(VerdictReader(adapted_model(lesson), chat.word_tokens(WORDS)), lesson)
    before = restore_state(engine, Path(lesson.parent)) if lesson.parent else 0
    for indices in batches:
        take_step(engine, examples, indices, CONFIG.learning_rate, rank=0, workers=1)
    Path(lesson.folder).mkdir(exist_ok=True)
    save_state(engine, Path(lesson.folder), before + len(batches))
    return load_file(Path(lesson.folder) / ADAPTER / "adapter_model.safetensors")


def compare(model: Path, questions: list[Question], scratch: Path) -> tuple[float, float]:
    """How far six steps differ from three, stopped and resumed, and three; and, for scale, from a single one."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    torch.distributed.init_process_group("gloo", init_method=f"file://{scratch / 'store'}", rank=0, world_size=1)
    whole = Lesson(
        base=str(model),
        folder=str(scratch / "whole"),
        parent=None,
        config=CONFIG,
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        seed=5,
        epoch=1,
        device="cpu",
        cores=1,
        logs=str(scratch),
        trust_remote_code=False,
    )
    batches = [batch for epoch in (1, 2) for batch in order(len(questions), CONFIG, seed=5, epoch=epoch)]
    assert len(batches) == 6
    undisturbed = teach(whole, questions, batches)
    teach(dataclasses.replace(whole, folder=str(scratch / "first")), questions, batches[:3])
    second = dataclasses.replace(whole, folder=str(scratch / "second"), parent=str(scratch / "first"), epoch=2)
    resumed = teach(second, questions, batches[3:])
    single = teach(dataclasses.replace(whole, folder=str(scratch / "single")), questions, batches[:1])
    torch.distributed.destroy_process_group()
    return difference(undisturbed, resumed), difference(undisturbed, single)


def difference(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> float:
    """The largest difference between two adapters."""
    return max(float((left[name] - right[name]).abs().max()) for name in left)


def test_going_on_equals_never_having_stopped(small_world: Path, questions: list[Question], tmp_path: Path) -> None:
    # In a process of its own: a process has one default process group, and vLLM's engine holds this one's.
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        resumed, single = pool.submit(compare, small_world / "model", questions[:22], tmp_path).result(timeout=300)
    assert resumed < 1e-6
    assert single > 1e-2
