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

FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
"""How safetensors names the fault of the system behind an error of its own."""


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` so that after a crash the file is the old or the new one. Raises `StoreError` on a full disk."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                file.write(text.encode())
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
        _sync_folder(path.parent)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the errors of writing `path` into `StoreError`; on a full disk it tells the space that is left."""
    try:
        yield
    except OSError as error:
        raise _told(path, error) from error
    except SafetensorError as error:
        number = SYSTEM_ERROR.search(str(error))
        if number is None:
            raise
        raise _told(path, OSError(int(number[1]), os.strerror(int(number[1])))) from error


def _told(path: Path, error: OSError) -> StoreError:
    if error.errno not in FULL_DISK:
        return StoreError(f"cannot write {path}: {error.strerror or error}: choose another --experiments-root")
    there = next(folder for folder in path.absolute().parents if folder.is_dir())
    free = shutil.disk_usage(there).free // 2**20
    return StoreError(f"no space left for {path} ({free} MiB free): make room and run the same command again")


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
