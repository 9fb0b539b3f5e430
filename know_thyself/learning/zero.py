"""What DeepSpeed is told: our settings, and a user's JSON file that goes over them. Loads nothing heavy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from know_thyself.config import TrainConfig
from know_thyself.errors import ConfigError, first_line

AUTO = "auto"
"""In files made for other trainers: whatever the trainer's own settings say."""
REPLACED = {
    "optimizer": "train.learning-rate and train.weight-decay",
    "scheduler": "train.warmup, train.decay and train.final-rate",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "amp": "train.precision",
    "torch_autocast": "train.precision",
    "data_types": "train.precision",
}
"""Keys of DeepSpeed that no file may bring, and the settings in their place."""
SETTINGS = {
    "train_batch_size": "train.batch-size",
    "train_micro_batch_size_per_gpu": "train.micro-batch-size",
    "gradient_accumulation_steps": "train.batch-size, train.workers and train.micro-batch-size",
    "gradient_clipping": "train.clip",
    "stage": "train.zero-stage",
}
"""Keys of DeepSpeed that a file may repeat but not contradict, and the settings that give their values."""


def batch_settings(config: TrainConfig, workers: int) -> dict[str, Any]:
    """How DeepSpeed splits the global batch of `config` over so many workers and their forward passes.

    Where it cannot be split evenly, the batch is counted with the places that stay empty.
    """
    share = -(-config.batch_size // workers)
    passes = -(-share // (config.micro_batch_size or -(-config.batch_size // config.workers_max)))
    micro = -(-share // passes)
    return {
        "train_batch_size": micro * passes * workers,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": passes,
    }


def zero_settings(config: TrainConfig, override: Mapping[str, Any], in_bf16: bool, workers: int) -> dict[str, Any]:
    """The whole of DeepSpeed's configuration: ours for so many workers, with `override` merged over it key by key."""
    batch = batch_settings(config, workers)
    ours = {
        "gradient_clipping": config.clip,
        "zero_optimization": {"stage": config.zero_stage},
        # The optimiser is torch's own in every stage and on every device: DeepSpeed's would be compiled at first use.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": in_bf16},
        "steps_per_print": 10**9,
    }
    return {**_merged(ours, override), **batch}


def read_override(config: TrainConfig) -> dict[str, Any]:
    """The content of the file `train.deepspeed`, without what it leaves to us (`auto`); empty when there is none.

    Raises `ConfigError` when it cannot be read, or contradicts a setting.
    """
    file = config.deepspeed
    if file is None:
        return {}
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"), parse_constant=_refuse_constant)
    except (OSError, ValueError) as error:
        raise ConfigError(f"train.deepspeed={file} cannot be read as JSON ({first_line(error)}): mend it") from error
    if not isinstance(content, dict):
        raise ConfigError(f"train.deepspeed={file} holds a {type(content).__name__}: give a JSON object of DeepSpeed settings")
    override = _without_auto(content)
    _check(file, override, config)
    return override


def _check(file: Path, override: Mapping[str, Any], config: TrainConfig) -> None:
    for key, setting in REPLACED.items():
        if key in override:
            raise ConfigError(f"train.deepspeed={file} has the key {key!r}: leave it out and use {setting}")
    zero = override.get("zero_optimization", {})
    if not isinstance(zero, dict):
        raise ConfigError(f"train.deepspeed={file} has zero_optimization={zero!r}: make it an object of settings")
    ours = {**batch_settings(config, config.workers_max), "gradient_clipping": config.clip, "stage": config.zero_stage}
    for key, value in {**override, **zero}.items():
        if key in ours and value != ours[key]:
            raise ConfigError(
                f"train.deepspeed={file} has {key}={value!r}, but {SETTINGS[key]} makes it {ours[key]!r}: "
                "leave the key out, or change the setting"
            )


def _refuse_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")


def _without_auto(content: Mapping[str, Any]) -> dict[str, Any]:
    cleaned = {key: _without_auto(value) if isinstance(value, dict) else value for key, value in content.items()}
    return {key: value for key, value in cleaned.items() if value not in (AUTO, {})}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(under[key], value) if isinstance(value, dict) and isinstance(under.get(key), dict) else value
        for key, value in over.items()
    }
    return {**under, **both}
