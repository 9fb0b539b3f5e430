"""One writer for an experiment at a time: a lock of the system, and in an object store, which has none, a lease.

Each writer puts an object into the folder `.writers` of the experiment and lists it: whoever finds another's there gives way,
so two who begin at once may both do so, but never both go on. A writer puts its object again every few seconds; one that stays
behind by `LAPSE`, by the store's own clock, is of a writer that is no more.
"""

from __future__ import annotations

import fcntl
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from uuid import uuid4

from know_thyself.errors import StoreError
from know_thyself.experiment.place import address, reaching, store_of
from know_thyself.experiment.writing import storing

WRITERS = ".writers"
RENEW, LAPSE, LOOK = 10.0, 60.0, 3.0
"""Seconds between two times that a lease is put, after which it has lapsed, and between two looks of one who waits for that."""

logger = logging.getLogger(__name__)


@contextmanager
def only_writer(path: Path, tell: Callable[[str], object]) -> Iterator[None]:
    """Be the only writer of the experiment at `path`, as long as the context lasts, or this process.

    `tell` is told when a lease must lapse first. Raises `StoreError` when another process writes it, or it cannot be written.
    """
    with storing(path):
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / ".lock").open("a+")
    with lock:
        _lock(lock.fileno(), path)
        with nullcontext() if store_of(path) is None else _leased(path, tell):
            yield


def _lock(descriptor: int, path: Path) -> None:
    """Take the writer lock; the system releases it when the process ends, however it ends."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise _taken(path) from error
    except OSError as error:
        raise StoreError(f"{path} cannot be locked ({error.strerror}): choose another --experiments-root") from error


def _taken(path: Path) -> StoreError:
    return StoreError(f"{address(path)} is being written by another process: wait for it or stop it")


@contextmanager
def _leased(path: Path, tell: Callable[[str], object]) -> Iterator[None]:
    lease = _Lease(path)
    try:
        lease.take(tell)
        lease.start()
        yield
    except KeyboardInterrupt:
        if lease.is_lost:
            raise StoreError(
                f"the lease of {address(path)} lapsed, and another process may have begun to write: run the same command again"
            ) from None
        raise
    finally:
        lease.end()


class _Lease(threading.Thread):
    """The lease of this process on the experiment at `path`, renewed once it is started."""

    def __init__(self, path: Path) -> None:
        super().__init__(daemon=True)
        self._path, self._own = path, path / WRITERS / uuid4().hex
        self._over = threading.Event()
        self._seconds = 0
        self.is_lost = False

    def take(self, tell: Callable[[str], object]) -> None:
        """Wait until all other leases have lapsed. Raises `StoreError` when one is renewed."""
        first = others = self._others()
        if others:
            tell(f"waiting up to {LAPSE:.0f} s for the lease of whoever wrote {address(self._path)} before, and may have died")
        while others:
            time.sleep(LOOK)
            others = self._others()
            if any(first.get(name) != seconds for name, seconds in others.items()):
                raise _taken(self._path)

    def _others(self) -> dict[str, int]:
        """When each other lease that has not lapsed was put last; those that have are removed. Puts this one anew."""
        with reaching(self._path) as store:
            store.write(self._own, b"")
            found = {info.base_name: info.seconds for info in store.inside(self._own.parent, deep=False) if info.is_file}
            self._seconds = found.pop(self._own.name)
            for name in [name for name, seconds in found.items() if self._seconds - seconds > LAPSE]:
                del found[name]
                store.delete(self._own.parent / name)
        return found

    def run(self) -> None:
        """Renew the lease until it ends; interrupt the process when it may have been taken for dead before."""
        while not self._over.wait(RENEW) and not self.is_lost:
            try:
                self._renew()
            except StoreError as error:
                logger.warning("the lease could not be renewed: %s", error)

    def _renew(self) -> None:
        with reaching(self._path) as store:
            store.write(self._own, b"")
            now = store.info(self._own)
        seconds = now.seconds if now else self._seconds
        if seconds - self._seconds >= LAPSE:
            self.is_lost = True
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        self._seconds = seconds

    def end(self) -> None:
        """Give the lease back."""
        self._over.set()
        if self.is_alive():
            self.join()
        with reaching(self._path) as store:
            store.delete(self._own)
