"""What a lesson is told reaches those who train, and the kinds of models that we name presets for can be taught."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from know_thyself.learning.lesson import Lesson
from know_thyself.types import Question, Verdict
from tests.chat_models import CHANNELS, SWITCHED, write_model
from tests.engine.classroom import Bench, Classroom, learned, losses, settings, teach_one_verdict
from tests.engine.reading import transformers_read

ARCHITECTURES = {"qwen3": SWITCHED, "gpt_oss": CHANNELS}


def farthest(weights: dict[str, torch.Tensor], layer: str) -> float:
    """How far the adapters of `layer` have moved from where they begin: their second factor begins at zero."""
    return max(float(tensor.abs().max()) for name, tensor in weights.items() if f"{layer}.lora_B" in name)


def test_the_adapter_the_clip_and_deepspeeds_own_settings_are_those_asked_for(bench: Bench, alone: Classroom) -> None:
    plain = bench.teach(alone, "plain", "lora")
    shape = {"r": 4, "alpha": 12, "targets": ("q_proj",)}
    diary = {"enabled": True, "output_path": str(bench.scratch), "job_name": "diary"}
    other = bench.teach(alone, "other", "lora", lora=shape, clip=1e-9, told={"deepspeed": {"csv_monitor": diary}})
    config = json.loads((Path(other.folder) / "adapter" / "adapter_config.json").read_text())
    assert {name: config[name] for name in ("r", "lora_alpha", "target_modules")} == {
        "r": 4,
        "lora_alpha": 12,
        "target_modules": ["q_proj"],
    }
    assert str(bench.base) not in json.dumps(config), "the adapter is another wherever its base lies"
    weights = learned(other)
    assert {name.split(".")[-3] for name in weights} == {"q_proj"}
    assert {min(tensor.shape) for tensor in weights.values()} == {4}
    assert farthest(weights, "q_proj") < 0.05 * farthest(learned(plain), "q_proj"), "the gradients were not clipped"
    assert list((bench.scratch / "diary").glob("*.csv")), "DeepSpeed was not told to keep its diary"


@pytest.fixture(params=ARCHITECTURES)
def chat_bench(request: pytest.FixtureRequest, questions: list[Question], tmp_path: Path) -> Bench:
    """Lessons for a model of another architecture."""
    base = write_model(ARCHITECTURES[request.param], tmp_path / "base", request.param)
    return Bench(base, questions[:22], tmp_path)


def test_an_adapter_learns_beside_models_of_every_kind(chat_bench: Bench, alone: Classroom) -> None:
    check_it_learns(chat_bench, alone, "lora", lora={"targets": ("q_proj", "k_proj", "v_proj", "o_proj")})


@pytest.mark.slow
def test_models_of_every_kind_learn_whole(chat_bench: Bench, pair: Classroom) -> None:
    lesson = check_it_learns(chat_bench, pair, "full", zero_stage=3)
    before, after = weights_in(chat_bench.base), learned(lesson)
    assert {name for name in before if torch.equal(before[name], after[name])} == set()


def check_it_learns(bench: Bench, room: Classroom, tuning: str, **changes: object) -> Lesson:
    """The lesson that every question can be answered: it lowers the loss, and what it left says so."""
    lesson = bench.lesson("one", settings(tuning, workers=room.workers, **changes), tuning=tuning)
    teach_one_verdict(lesson, Verdict.CAN)
    room.teach(lesson)
    curve = losses(Path(lesson.folder))
    assert curve[-1] < 0.5 * curve[0]
    folder = Path(lesson.folder)
    model, adapter = (bench.base, folder / "adapter") if tuning == "lora" else (folder / "model", None)
    before, after = transformers_read(bench.base, None, bench.questions), transformers_read(model, adapter, bench.questions)
    assert (after[:, 0] - after[:, 1]).mean() > (before[:, 0] - before[:, 1]).mean() + 0.5
    return lesson


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")
