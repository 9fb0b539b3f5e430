"""A user's DeepSpeed file: merged over ours, or refused in one line before anything heavy loads."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from know_thyself.config import TrainConfig
from know_thyself.errors import ConfigError
from know_thyself.learning.lesson import Lesson
from know_thyself.learning.zero import read_override, zero_settings
from know_thyself.types import LabelMode, PromptStyle


def config_with(folder: Path, content: object, **changes: Any) -> TrainConfig:
    file = folder / "own.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return TrainConfig(deepspeed=file, **changes)


def lesson(config: TrainConfig, **changes: Any) -> Lesson:
    fields: dict[str, Any] = {
        "base": "base",
        "folder": "",
        "parent": None,
        "config": config,
        "tuning": "lora",
        "style": PromptStyle.SYSTEM,
        "mode": LabelMode.BINARY,
        "seed": 0,
        "epoch": 1,
        "device": "cpu",
        "cores": 1,
        "logs": "",
        "trust_remote_code": False,
        "prefill": None,
        "deepspeed": {},
    }
    return Lesson(**fields | changes)


def test_a_file_goes_over_ours_key_by_key_and_auto_means_ours(tmp_path: Path) -> None:
    content = {
        "train_batch_size": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": False},
        "bf16": {"enabled": "auto"},
        "wall_clock_breakdown": True,
    }
    config = config_with(tmp_path, content, batch_size=8, micro_batch_size=2, workers=2)
    override = read_override(config)
    settings = zero_settings(config, override, in_bf16=True, workers=2)
    assert settings["zero_optimization"] == {"stage": 2, "reduce_bucket_size": 1000, "overlap_comm": False}
    assert settings["wall_clock_breakdown"] is True
    assert (settings["train_batch_size"], settings["gradient_accumulation_steps"]) == (8, 2)
    assert settings["bf16"] == {"enabled": True}


def test_no_file_changes_nothing() -> None:
    assert read_override(TrainConfig()) == {}
    settings = zero_settings(TrainConfig(batch_size=32, workers=4), {}, in_bf16=False, workers=4)
    assert settings["train_micro_batch_size_per_gpu"] == 8


@pytest.mark.parametrize(("workers", "passes", "micro"), [(1, 4, 8), (2, 2, 8), (3, 2, 6), (4, 1, 8)])
def test_fewer_workers_take_more_passes_of_no_larger_size(tmp_path: Path, workers: int, passes: int, micro: int) -> None:
    """What a file says of the batch is held against the most workers, and decides nothing when they are fewer."""
    config = config_with(tmp_path, {"train_batch_size": 32, "gradient_accumulation_steps": 1}, workers="1..4")
    settings = zero_settings(config, read_override(config), in_bf16=False, workers=workers)
    assert (settings["gradient_accumulation_steps"], settings["train_micro_batch_size_per_gpu"]) == (passes, micro)
    assert settings["train_batch_size"] == passes * micro * workers


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({"train_batch_size": 64}, ["train_batch_size=64", "train.batch-size", "32"]),
        ({"train_micro_batch_size_per_gpu": 3}, ["train_micro_batch_size_per_gpu=3", "train.micro-batch-size"]),
        ({"gradient_accumulation_steps": 7}, ["gradient_accumulation_steps=7", "train.workers"]),
        ({"gradient_clipping": 0.5}, ["gradient_clipping=0.5", "train.clip"]),
        ({"zero_optimization": {"stage": 3}}, ["stage=3", "train.zero-stage"]),
        ({"zero_optimization": 3}, ["zero_optimization=3"]),
        ({"optimizer": {"type": "Adam"}}, ["'optimizer'", "train.learning-rate"]),
        ({"scheduler": {"type": "WarmupLR"}}, ["'scheduler'", "train.warmup"]),
        ({"fp16": {"enabled": True}}, ["'fp16'", "train.precision"]),
        ([1], ["holds a list"]),
        ('{"a": NaN}', ["NaN"]),
        ("{", ["cannot be read as JSON"]),
    ],
)
def test_a_file_that_contradicts_is_one_line(tmp_path: Path, content: object, words: list[str]) -> None:
    config = config_with(tmp_path, content)
    with pytest.raises(ConfigError) as caught:
        read_override(config)
    text = str(caught.value)
    assert "\n" not in text
    assert str(config.deepspeed) in text
    assert all(word in text for word in words), text


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_override(TrainConfig(deepspeed=tmp_path / "none.json"))


def test_how_a_batch_is_spread_names_no_stage_but_what_is_taught_does() -> None:
    plain = lesson(TrainConfig()).settings("base")
    spread = TrainConfig(
        workers="1..4",
        micro_batch_size=2,
        zero_stage=3,
        gradient_checkpointing=True,
        checkpoint_every=7,
        failures=0,
        preemptions=0,
    )
    assert lesson(spread).settings("base") == plain
    others = [
        lesson(TrainConfig(), tuning="full"),
        lesson(TrainConfig(), prefill="x"),
        lesson(TrainConfig(), deepspeed={"zero_optimization": {"overlap_comm": True}}),
        lesson(TrainConfig(length_pool=2)),
        lesson(TrainConfig(decay="cosine")),
        lesson(TrainConfig(loss="sequence", target="hard")),
        lesson(TrainConfig(precision="bf16")),
    ]
    assert all(other.settings("base") != plain for other in others)


def test_what_a_judge_learns_names_no_stage_that_teaches_knowledge() -> None:
    other = {"style": PromptStyle.ASKED, "mode": LabelMode.UNCERTAINTY}
    judging = TrainConfig(select="wrong", target="hard", loss="sequence")
    plain, changed = lesson(TrainConfig()), lesson(judging, **other)
    assert plain.settings("base") != changed.settings("base")
    plain, changed = (dataclasses.replace(one, teaches="knowledge") for one in (plain, changed))
    assert plain.settings("base") == changed.settings("base")


def test_with_dropout_the_spread_decides_the_masks_and_so_the_stage() -> None:
    config = TrainConfig.model_validate({"lora": {"dropout": 0.1}})
    two = config.model_copy(update={"workers": 2})
    assert lesson(config).settings("base") != lesson(two).settings("base")
    assert lesson(config, tuning="full").settings("base") == lesson(two, tuning="full").settings("base")


def test_a_sequence_cannot_be_taught_softly() -> None:
    with pytest.raises(ValueError, match=r"train.loss='sequence' .* use --train.target hard"):
        TrainConfig(loss="sequence")
