"""The registry: a folder of judges by name, and beside them the text file `prod`, which names the one that serves.

    registry/
      prod          one line: world-2
      world-1/      a judge folder
      world-2/      another

Names come from outside, so that they are held to a list of what is allowed before they become part of a path.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from know_thyself.errors import ConfigError
from know_thyself.experiment.writing import write_whole
from know_thyself.judge import CARD
from serve.judging import Judge
from serve.policy import NAME

ALIAS = "prod"
LONGEST_LINE = 200

Load = Callable[[Path], Awaitable[Judge]]
"""Verifies the judge of a folder and lets it judge once. Whatever it raises keeps that judge out."""


def is_name(text: str) -> bool:
    """Whether `text` may be the name of a judge, there or not."""
    return re.fullmatch(NAME, text) is not None and text != ALIAS


class Appointed(NamedTuple):
    """The judge that the registry names, and when it was named (nanoseconds)."""

    name: str
    at: int


class Registry:
    """The judges in `folder`. What it holds may change at any time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def names(self) -> list[str]:
        """All judges, in the order of their names."""
        return sorted(path.parent.name for path in self._folder.glob(f"*/{CARD}") if is_name(path.parent.name))

    def judge(self, name: str) -> Path:
        """The folder of the judge `name`. Raises `ConfigError` unless there is one."""
        if not is_name(name):
            told = "use 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit"
            raise ConfigError(f"{name[:80]!r} is no name of a judge: {told}; see {self._folder / ALIAS}")
        if name not in self.names:
            raise ConfigError(f"there is no judge {name} in {self._folder}: it holds {', '.join(self.names) or 'none'}")
        return self._folder / name

    @property
    def appointed(self) -> Appointed:
        """The judge that `prod` names, there or not; nameless where `prod` cannot be read."""
        alias = self._folder / ALIAS
        try:
            with alias.open(encoding="utf-8-sig") as file:
                return Appointed(file.read(LONGEST_LINE).strip(), alias.stat().st_mtime_ns)
        except (OSError, ValueError):
            return Appointed("", 0)

    def appoint(self, name: str) -> Appointed:
        """Let `prod` name the judge `name`. Raises `ConfigError` unless there is one, `StoreError` where it cannot."""
        self.judge(name)
        write_whole(self._folder / ALIAS, name + "\n")
        return self.appointed


@dataclass(frozen=True, slots=True)
class Successors:
    """Where the judges to come are, and how one of them is made ready."""

    registry: Registry
    load: Load
