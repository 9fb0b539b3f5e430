"""What an epoch hands to the next: adapter, moments and step, so that going on equals never having stopped."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
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


@pytest.fixture(scope="module")
def process_group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A process group of one, on the loopback interface."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path_factory.mktemp('group')}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


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


def test_going_on_equals_never_having_stopped(
    process_group: None, small_world: Path, questions: list[Question], tmp_path: Path
) -> None:
    whole = Lesson(
        base=str(small_world / "model"),
        folder=str(tmp_path / "whole"),
        parent=None,
        config=CONFIG,
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        seed=5,
        epoch=1,
        device="cpu",
        cores=1,
        logs=str(tmp_path),
        trust_remote_code=False,
    )
    asked = questions[:22]
    batches = list(order(len(asked), CONFIG, seed=5, epoch=1)) + list(order(len(asked), CONFIG, seed=5, epoch=2))
    assert len(batches) == 6
    undisturbed = teach(whole, asked, batches)
    teach(dataclasses.replace(whole, folder=str(tmp_path / "first")), asked, batches[:3])
    second = dataclasses.replace(whole, folder=str(tmp_path / "second"), parent=str(tmp_path / "first"), epoch=2)
    resumed = teach(second, asked, batches[3:])
    untrained = teach(dataclasses.replace(whole, folder=str(tmp_path / "untrained")), asked, batches[:1])
    assert max(float((undisturbed[name] - resumed[name]).abs().max()) for name in undisturbed) < 1e-6
    assert max(float((undisturbed[name] - untrained[name]).abs().max()) for name in undisturbed) > 1e-2
