"""The keys that hold now: their file is read again when it changes, so that a key that leaked ends without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from know_thyself.errors import ConfigError, in_a_line
from serve.auth import Keys, read_keys

log = logging.getLogger("serve.keyring")


@dataclass(slots=True)
class Keyring:
    """The `keys` of an app, which may be replaced between any two requests."""

    keys: Keys


class Stamp(NamedTuple):
    """By what a file is known to have changed: when its text did, when it did at all (both in nanoseconds), and its size."""

    text: int
    file: int
    size: int


NEVER = Stamp(0, 0, 0)
"""Of a file that was not looked at yet."""


class Renewal:
    """Puts the keys that `file` has come to hold on the `keyring`, where `check` raises nothing for them."""

    def __init__(self, file: Path, keyring: Keyring, check: Callable[[Keys], None]) -> None:
        self._file, self._keyring, self._check = file, keyring, check
        self._seen: Stamp | None = NEVER

    async def look(self) -> None:
        """Renew the keys where the file has changed. One that is wrong is told, and not tried again."""
        stamp = await asyncio.to_thread(_stamp, self._file)
        if stamp == self._seen:
            return
        self._seen = stamp
        try:
            keys = await asyncio.to_thread(read_keys, self._file)
            self._check(keys)
        except ConfigError as error:
            log.error("the file of keys is refused, and the keys before hold on: %s", in_a_line(error))
        else:
            self._keyring.keys = keys
            log.info("the keys of %s hold, %d of them", self._file, len(keys.keys))


def _stamp(file: Path) -> Stamp | None:
    """That of `file`, None where it cannot be looked at."""
    try:
        found = file.stat()
    except OSError:
        return None
    return Stamp(found.st_mtime_ns, found.st_ctime_ns, found.st_size)
