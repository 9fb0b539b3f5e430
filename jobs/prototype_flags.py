"""The prototype's spellings of our flags, in one table; every job accepts them.

A translation only renames: whether a value makes sense is for the settings to say.
`docs/coming-from-the-prototype.md` shows the same table.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from know_thyself.config import is_url
from know_thyself.errors import ConfigError

FLAGS: Mapping[str, str] = {
    "--num_samples": "--data.num-train {value}",
    "--num_val_samples": "--data.num-validation {value}",
    "--train_samples": "--data.num-train {value}",
    "--test_samples": "--data.num-validation {value}",
    "--epochs": "--train.epochs {value}",
    "--lr": "--train.learning-rate {value}",
    "--num_gpus": "--train.workers {value} --engine.actors-max {value}",
    "--batch_size": "--train.batch-size {over_all_gpus} --train.micro-batch-size {value}",
    "--train_batch": "--train.batch-size {value}",
    "--inference_batch": "--engine.batch-size {value}",
    "--inference_batch_size": "--engine.batch-size {value}",
    "--num_trials": "--sampling.num-trials {value}",
    "--lora_r": "--train.lora.r {value}",
    "--lora_alpha": "--train.lora.alpha {value}",
    "--no_lora": "--tuning full",
    "--output_dir": "--experiments-root {folder} --name {name}",
    "--experiment": "--name {value}",
    "--resume": "",
}
"""A flag of the prototype as flags of ours. Without a {field}, it takes no value. `--resume` is what every job does anyway."""

STUDY_FLAGS: Mapping[str, str] = {
    "--lr": "--train.learning-rate {value} --study.learning-rate {value}",
    "--batch_size": "--train.batch-size {value} --study.batch-size {value}",
    "--train_batch": "--train.batch-size {value} --study.batch-size {value}",
    "--lora_r": "--train.lora.r {value} --study.lora.r {value}",
    "--lora_alpha": "--train.lora.alpha {value} --study.lora.alpha {value}",
    "--knowledge_epochs": "--study.rounds {value} --study.passes 1 --study.patience {value}",
}
"""What a flag means to the three-phase job where that is something else: it trains knowledge as well."""

REFUSED: Mapping[str, str] = {
    "--phase": "it chooses a phase of the three-phase pipeline: leave it out, or run jobs.three_phase",
    "--knowledge_epochs": "it belongs to the three-phase pipeline: leave it out, or run jobs.three_phase",
}
"""Flags that only the three-phase job honours, each with its remedy."""

GPUS = "--num_gpus"
FIELD = re.compile(r"{(\w+)}")


def translate(arguments: Sequence[str], *, study: bool = False) -> list[str]:
    """`arguments` with the prototype's flags, spelled with underscores or dashes, replaced by ours; the rest as it is.

    `study` tells that they are the three-phase job's.

    Raises `ConfigError` for a flag that cannot be honoured, and for a value that cannot be translated.
    """
    flags, refused = ({**FLAGS, **STUDY_FLAGS}, {}) if study else (FLAGS, REFUSED)
    words = list(arguments)
    translated = []
    while words:
        word = words.pop(0)
        flag, equals, value = _split(word)
        if flag in refused:
            raise ConfigError(f"{word}: {refused[flag]}")
        if flag not in flags:
            translated.append(word)
        elif not FIELD.search(flags[flag]):
            translated += _switch(flag, equals + value, flags[flag])
        else:
            given = value if equals else words.pop(0) if words else None
            translated += _filled(flag, given, flags[flag], arguments)
    return translated


def _split(word: str) -> tuple[str, str, str]:
    """`--num-samples=5` as `("--num_samples", "=", "5")`; what is no flag keeps its dashes."""
    flag, equals, value = word.partition("=")
    return (f"--{flag[2:].replace('-', '_')}" if flag.startswith("--") else flag), equals, value


def _switch(flag: str, value: str, ours: str) -> list[str]:
    if value:
        raise ConfigError(f"{flag}{value}: {flag} takes no value: leave {value} out")
    return ours.split()


def _filled(flag: str, value: str | None, ours: str, arguments: Sequence[str]) -> list[str]:
    if value is None or value.startswith("--"):
        raise ConfigError(f"{flag} has no value: write {flag} VALUE")
    return [FIELD.sub(lambda field: FILL[field[1]](flag, value, arguments), word) for word in ours.split()]


def _over_all_gpus(flag: str, value: str, arguments: Sequence[str]) -> str:
    """The batch of one GPU times their number, which must be given: a preset may say another than the prototype's 8."""
    gpus = _last_value(GPUS, arguments)
    if gpus is None:
        raise ConfigError(
            f"{flag} {value} is the batch of one GPU, as in the prototype: add {GPUS}, or give that of all GPUs with "
            "--train.batch-size"
        )
    return str(_whole(flag, value) * _whole(GPUS, gpus))


def _last_value(flag: str, arguments: Sequence[str]) -> str | None:
    found = None
    for word, after in zip(arguments, [*arguments[1:], None], strict=True):
        name, equals, value = _split(word)
        if name == flag:
            found = value if equals else after
    return found


def _whole(flag: str, value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise ConfigError(f"{flag} {value}: give a whole number, such as {flag} 8")
    return int(value)


def _name(flag: str, value: str, arguments: Sequence[str]) -> str:
    if not Path(value).name or Path(value).name == "..":
        raise ConfigError(f"{flag} {value} names no folder of its own: give one, such as {flag} experiments/mine")
    return Path(value).name


def _folder(flag: str, value: str, arguments: Sequence[str]) -> str:
    """The folder that `value` is in; a path would lose one of the slashes of a URL."""
    return value.rstrip("/").rpartition("/")[0] if is_url(value) else str(Path(value).parent)


FILL: Mapping[str, Callable[[str, str, Sequence[str]], str]] = {
    "value": lambda flag, value, arguments: value,
    "over_all_gpus": _over_all_gpus,
    "folder": _folder,
    "name": _name,
}
"""What stands for a {field}, from the flag, its value and the whole command line."""
