"""Writing so that a crash leaves the old or the new, and a full disk leaves an error that tells."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from know_thyself.errors import StoreError
from know_thyself.experiment.place import put

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SYSTEM_ERROR = re.compile(r"\b(?:errno|os error) (\d+)\b", re.IGNORECASE)
"""How Python, Arrow and safetensors name the fault of the system in what they say."""


def write_whole(path: Path, text: str, errors: str = "strict") -> None:
    """Write `text` to `path` so that after a crash the file is the old or the new one; `errors` as in `str.encode`.

    In the copy of an object store, the file is put into the store first. Raises `StoreError` on a full disk.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(text.encode(errors=errors))
                file.flush()
                os.fsync(file.fileno())
            put(path, partial)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the errors of writing `path` into `StoreError`; on a full disk it tells the space that is left."""
    try:
        with minding_space(path):
            yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}: choose another --experiments-root") from error


@contextmanager
def minding_space(path: Path) -> Iterator[None]:
    """Turn the errors of a full disk into `StoreError`, which tells the space left around `path`; others pass."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        raise no_space(path) from error
    except SafetensorError as error:
        if (number := system_error(str(error))) is None:
            raise
        if number not in FULL_DISK:
            raise OSError(number, os.strerror(number)) from error
        raise no_space(path) from error


def system_error(told: str) -> int | None:
    """The number of the system's error that the text of an exception names, None when it names none."""
    found = SYSTEM_ERROR.search(told)
    return None if found is None else int(found[1])


def no_space(path: Path) -> StoreError:
    """The error of a disk that is full where `path` should be written: the space that is left, and what to do."""
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(there).free // 2**20
    return StoreError(f"no space left for {path} ({free} MiB free): make room and run the same command again")


def replace_folder(folder: Path, fresh: Path) -> None:
    """Put the folder `fresh`, of the same parent, in place of `folder`, which need not be there.

    After a crash, `restore_folder` finds the old or the new one.
    """
    aside = _aside(folder)
    if folder.exists():
        shutil.rmtree(aside, ignore_errors=True)
        folder.rename(aside)
    fresh.rename(folder)
    _sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


def restore_folder(folder: Path) -> None:
    """Put back the old `folder` when `replace_folder` was killed with neither the old nor the new in place."""
    aside = _aside(folder)
    if aside.exists() and not folder.exists():
        aside.rename(folder)


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """Have the system put the bytes of `path` on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
