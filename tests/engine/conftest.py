"""One real vLLM engine for the whole session, the models that it is asked with, and the rooms in which models learn."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from know_thyself.engine.protocol import EngineSpec
from know_thyself.types import Question
from tests.engine.classroom import Bench, Classroom, questions_of

if TYPE_CHECKING:
    from know_thyself.engine.vllm import VllmEngine


@pytest.fixture(scope="session")
def engine(small_world: Path) -> VllmEngine:
    from know_thyself.engine.vllm import VllmEngine

    return VllmEngine(EngineSpec(base=str(small_world / "model"), device="cpu", mode="swap", max_model_len=256, cores=2))


@pytest.fixture(scope="session")
def questions(small_world: Path) -> list[Question]:
    return questions_of(small_world)


@pytest.fixture(scope="session")
def adapter(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter that changes the model visibly."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    base = AutoModelForCausalLM.from_pretrained(str(small_world / "model"), dtype=torch.float32)
    model = get_peft_model(
        base, LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    out = tmp_path_factory.mktemp("adapter")
    model.save_pretrained(str(out))
    return out


@pytest.fixture(scope="session")
def merged(small_world: Path, adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from know_thyself.stages.merging import merge_adapter

    out = tmp_path_factory.mktemp("merged") / "model"
    merge_adapter(small_world / "model", adapter, out)
    return out


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    room = Classroom(1, tmp_path_factory.mktemp("alone"))
    yield room
    room.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    room = Classroom(2, tmp_path_factory.mktemp("pair"))
    yield room
    room.close()


@pytest.fixture
def bench(small_world: Path, questions: list[Question], tmp_path: Path) -> Bench:
    return Bench(small_world / "model", questions[:22], tmp_path)
