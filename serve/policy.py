"""What an operator wants: a closed file of settings, every fault of which is one line with its remedy."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, Field, ValidationError, model_validator

from know_thyself.errors import ConfigError
from know_thyself.wire import Bar, Closed, Share

DEFAULTS = Path(__file__).with_name("policy.toml")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What may name a judge or a key."""
Settings = TypeVar("Settings", bound=BaseModel)


class Canary(Closed):
    """A judge of the registry that answers a `share` of the requests."""

    judge: str = Field(pattern=NAME)
    share: Share


class Policy(Closed):
    """The bar of every route, the default for those without one, and what becomes of a question `below` it.

    `canary` and `shadow` are judges of the registry beside the one that serves.
    """

    below: Literal["escalate", "abstain"] = "escalate"
    default: Bar
    routes: dict[str, Bar] = Field(default_factory=dict)
    canary: Canary | None = None
    shadow: str | None = Field(None, pattern=NAME)

    @model_validator(mode="after")
    def _bars_are_set(self) -> Self:
        for name, bar in {"default": self.default, **self.routes}.items():
            if not bar.is_set:
                raise ValueError(f"{name} has neither threshold nor target_accuracy: give it one")
        return self


def read_policy(file: Path = DEFAULTS) -> Policy:
    """The policy in `file`. Raises `ConfigError`."""
    return read_settings(file, Policy)


def read_settings(file: Path, kind: type[Settings]) -> Settings:
    """The settings of `kind` in `file`, TOML or (by its suffix) JSON. Raises `ConfigError`, without any value of the file."""
    try:
        return kind.model_validate(_parsed(file))
    except (OSError, ValueError) as error:
        if isinstance(error, ValidationError):
            fault = error.errors()[0]
            place = ".".join(map(str, fault["loc"]))
            told = f"{place}: {fault['msg'].removeprefix('Value error, ')}".removeprefix(": ")
            raise ConfigError(f"{file}: {told}") from None
        raise ConfigError(f"{file} cannot be read as TOML or JSON ({type(error).__name__}): mend it, or name another") from None


def _parsed(file: Path) -> Any:
    text = file.read_text(encoding="utf-8-sig")
    return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
