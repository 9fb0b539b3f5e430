"""Files that grow while a process works, such as logs: put into the store every few seconds, as no object can be added to."""

from __future__ import annotations

import atexit
import logging
import threading
from functools import lru_cache
from pathlib import Path

from know_thyself.errors import StoreError
from know_thyself.experiment.place import put, store_of

EVERY = 3.0
"""Seconds between two times that a file that grew is put."""

logger = logging.getLogger(__name__)


def keep(path: Path) -> None:
    """Put the file `path`, which may not be there yet, whenever it has grown, for as long as this process lives."""
    if store_of(path) is not None:
        _keeper().add(path)


def flush() -> None:
    """Put what has grown of the files that are kept, at once; what cannot be put now is tried again later."""
    if _keeper.cache_info().currsize:
        _keeper().put_grown()


class _Keeper:
    """The growing files of this process, and what was put of each."""

    def __init__(self) -> None:
        self._sizes: dict[Path, int] = {}
        self._one = threading.Lock()
        self._over = threading.Event()

    def add(self, path: Path) -> None:
        """Put `path` from now on."""
        with self._one:
            self._sizes.setdefault(path, 0)

    def put_grown(self) -> None:
        """Put what has grown since it was put last."""
        with self._one:
            for path, before in self._sizes.items():
                size = _size(path)
                if size != before:
                    self._sizes[path] = size if _is_put(path) else before

    def work(self) -> None:
        """Put what has grown now and then, until the end."""
        while not self._over.wait(EVERY):
            self.put_grown()

    def end(self) -> None:
        """Put what has grown a last time."""
        self._over.set()
        self.put_grown()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def _is_put(path: Path) -> bool:
    try:
        put(path)
    except (StoreError, OSError) as error:
        logger.warning("%s was not put: %s", path, error)
        return False
    return True


@lru_cache
def _keeper() -> _Keeper:
    import pyarrow.fs  # noqa: F401 - it ends its part at exit as well, and must do so after us

    keeper = _Keeper()
    threading.Thread(target=keeper.work, daemon=True).start()
    atexit.register(keeper.end)
    return keeper
