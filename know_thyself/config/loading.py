"""Settings from all their layers: defaults, preset, environment, flags; every fault one line with its value and remedy."""

from __future__ import annotations

import argparse
import os
import tomllib
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_settings import SettingsError

from know_thyself.config.sections import Section
from know_thyself.config.tree import ENV_PREFIX, RunConfig
from know_thyself.errors import ConfigError, said

ROOT_VARIABLE = "KT_EXPERIMENTS"
SCRATCH_VARIABLE = "KT_SCRATCH"
"""Where a machine keeps its copies of experiments in an object store; no setting, for it may differ between machines."""
FAKE_PREFIX = "KT_FAKE_"
"""Orders to the fakes of `know_thyself.testing`, which are no settings."""
NOT_PLAIN = {
    f"train.lora.{name}": "engines load plain LoRA on linear layers alone: leave it out"
    for name in ("use_dora", "modules_to_save")
}
"""Settings of PEFT that are none of ours, and why."""
LONGEST_VALUE = 100
"""Characters of a wrong value that an error shows."""


def preset_path(preset: str) -> Path:
    """The TOML file of `preset`: a path, or a name in the presets folder. Raises `ConfigError`."""
    folder = Path(str(resources.files("know_thyself") / "presets"))
    path = Path(preset) if preset.endswith(".toml") else folder / f"{preset}.toml"
    if not path.is_file():
        names = ", ".join(sorted(file.stem for file in folder.glob("*.toml")))
        raise ConfigError(f"there is no preset {preset!r}: choose one of {names}, or give a path to a TOML file")
    return path


def load_config(arguments: Sequence[str], program: str) -> RunConfig:
    """The settings that `arguments` (flags without the program's name) ask for, over environment, preset and defaults.

    `--help` prints the flags and exits. Raises `ConfigError` with the value at fault and the remedy.
    """
    flags = [_dashed(argument) for argument in arguments]
    _check_environment()
    _check_flags(flags)
    preset = _named_preset(flags)
    values = _read_preset(preset) if preset is not None else {}
    if root := os.environ.get(ROOT_VARIABLE):
        values["experiments_root"] = root
    try:
        return RunConfig(_cli_parse_args=flags, _cli_prog_name=program, **values)
    except ValidationError as error:
        raise ConfigError(_explain(error)) from error
    except SettingsError as error:
        reason = str(error).removeprefix("error parsing CLI: ")
        from_flags = reason != str(error)
        remedy = "see --help for the flags there are" if from_flags else "write lists in the environment as JSON"
        raise ConfigError(f"{reason}: {remedy}") from error


def _dashed(argument: str) -> str:
    """`--num_trials=5` as `--num-trials=5`."""
    flag, equals, value = argument.partition("=")
    return flag.replace("_", "-") + equals + value if flag.startswith("--") else argument


def _check_flags(flags: Sequence[str]) -> None:
    for flag in flags:
        name = flag.partition("=")[0].removeprefix("--").replace("-", "_")
        if flag.startswith("--") and name in NOT_PLAIN:
            raise ConfigError(f"{flag}: {NOT_PLAIN[name]}")


def _named_preset(flags: Sequence[str]) -> str | None:
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--preset", default=os.environ.get(f"{ENV_PREFIX}PRESET"))
    try:
        preset: str | None = finder.parse_known_args(flags)[0].preset
    except argparse.ArgumentError as error:
        raise ConfigError(f"{error}: name a preset, such as --preset world") from error
    return preset


def _read_preset(preset: str) -> dict[str, Any]:
    try:
        values = tomllib.loads(preset_path(preset).read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ConfigError(f"preset {preset} cannot be read as TOML ({error}): mend it") from error
    for name in values:
        if name not in RunConfig.model_fields:
            raise ConfigError(f"preset {preset}: there is no setting {name!r}: mend its name, or see --help")
    return values


def _variables(section: type[BaseModel], prefix: str) -> Iterator[str]:
    """The environment variables of the settings of `section`."""
    for name, field in section.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield from _variables(field.annotation, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}"


def _check_environment() -> None:
    known = {*_variables(RunConfig, ENV_PREFIX), ROOT_VARIABLE, SCRATCH_VARIABLE}
    for name in os.environ:
        if name.upper().startswith(ENV_PREFIX) and not name.startswith(FAKE_PREFIX) and name.upper() not in known:
            setting = name.upper().removeprefix(ENV_PREFIX).replace("__", ".").lower()
            remedy = NOT_PLAIN.get(setting, "unset it, or spell it like KT_TRAIN__EPOCHS for --train.epochs")
            raise ConfigError(f"environment variable {name} is no setting: {remedy}")


def _explain(error: ValidationError) -> str:
    """All faults of `error` in one line: each setting, the value given and what is wrong with it."""
    faults = []
    for fault in error.errors():
        setting = ".".join(str(part) for part in fault["loc"])
        message = said(fault["msg"])
        if fault["type"] == "extra_forbidden":
            message = NOT_PLAIN.get(setting, "there is no such setting: see --help")
        value = "" if isinstance(fault["input"], dict | BaseModel) else f"={_shown(fault['input'])}"
        faults.append(f"{setting}{value}: {message}" if setting else message)
    return "; ".join(faults)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
