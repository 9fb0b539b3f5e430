"""Where experiments lie: in folders that all nodes see, or in an object store of which each machine keeps a copy.

An experiments root that is a URL, s3://bucket/prefix or gs://bucket/prefix, has a working copy on every machine, below
`KT_SCRATCH` or else the system's folder for temporary files. All code works on paths below the copy's root; it brings what it
reads (`pull`) and takes back what it wrote (`push`). The store is the truth: what is not there does not count. An object is put
whole or not at all, and what vouches for other files is put after them. Hidden files stay where they are.

For paths anywhere else these functions do what they say of files, and nothing more. Where a machine finds the store, and by
whose leave, is told by its usual environment.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from uuid import uuid4

from know_thyself.config import SCRATCH_VARIABLE, is_url
from know_thyself.errors import ConfigError, StoreError, first_line
from know_thyself.experiment.store import Info, Store, endpoint_of, is_hidden

URL = re.compile(r"(s3|gs)://([\w-][\w.-]*)(?:/+[\w=+-][\w.=+-]*)*/*", re.ASCII)
"""No folder is hidden, for hidden files stay where they are, and there is neither a secret nor an option in it."""
VOUCHING = ("_DONE.json", "_COMPLETE.json", "judge.json")
"""Files that say that those beside them are whole: the last to come and the first to go."""


def is_stored(text: str) -> bool:
    """Whether `text` is the URL of a place in an object store that we can use."""
    return URL.fullmatch(text) is not None


def locate(told: Path | str) -> Path:
    """The absolute path that `told` means, of a URL that of its working copy, which may not be there yet.

    Raises `ConfigError` for a URL that we cannot use, `StoreError` when its bucket is out of reach.
    """
    if not isinstance(told, str) or not is_url(told):
        return Path(told).expanduser().absolute()
    if (named := URL.fullmatch(told)) is None:
        raise ConfigError(f"{told} is no place that we can use: give a folder, or s3://bucket/prefix or gs://bucket/prefix")
    path = here(told)
    with reaching(path) as store:
        if not store.has_bucket(path):
            raise StoreError(f"{told}: there is no bucket {named[2]!r}: make it, or give another --experiments-root")
    return path


def _scratch() -> Path:
    folder = os.environ.get(SCRATCH_VARIABLE) or tempfile.gettempdir()
    return Path(folder).absolute() / f"know-thyself-copies-{os.getuid()}"


def _copies(scheme: str) -> Path:
    """The folder of the working copies of all buckets of `scheme`, one for each address that there is such a store at."""
    told = re.sub(r"\W+", "-", endpoint_of(scheme))
    return _scratch() / f"{scheme}-{told}".rstrip("-")


def here(address: str) -> Path:
    """Where on this machine that lies which another, or a saved file, calls `address`."""
    if not is_url(address):
        return Path(address)
    scheme, _, key = address.partition("://")
    return _copies(scheme) / key.strip("/")


def address(path: Path | str) -> str:
    """What `path` is called on every machine: its URL where it lies in a copy, else the path."""
    store = store_of(Path(path))
    return str(path) if store is None else f"{store.scheme}://{store.key(Path(path))}"


def sent(value: Any) -> Any:
    """`value` as it is sent to another machine: with the address in place of each path, which are strings within it."""
    return _changed(value, lambda text: address(text) if store_of(Path(text)) else text)


def received(value: Any) -> Any:
    """What `sent` made of `value` on another machine, with paths of this one."""
    return _changed(value, lambda text: str(here(text)) if is_stored(text) else text)


def _changed(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _changed(part, change) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_changed(part, change) for part in value)
    if is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: _changed(getattr(value, field.name), change) for field in fields(value)}
        return replace(value, **parts)
    return value


def filesystem(path: Path) -> Any:
    """The Arrow file system that reads and writes the `address` of `path`; None: whatever the address itself means."""
    store = store_of(path)
    return None if store is None else store.arrow(path)


def pull(folder: Path, *patterns: str, exact: bool = True) -> Path:
    """Bring what the store has below `folder`, as far as it is missing or another one here, and return `folder`.

    `patterns` are of paths below it, all of them where none is given; * stands for no slash. What only the copy has is removed
    where this is to be `exact`. Raises `StoreError`.
    """
    if store_of(folder) is None:
        return folder
    with reaching(folder) as store, _alone(store):
        there = store.files(folder, patterns)
        if exact:
            _drop(folder, _files(folder, patterns).keys() - there.keys())
        differing = [name for name, info in there.items() if not _is_same(folder / name, info)]
        for names in _in_order(differing):
            store.each(lambda name: store.fetch(folder / name, there[name]), names)
    return folder


def forget(folder: Path) -> None:
    """Remove from the copy what the store has otherwise, or not at all. Raises `StoreError`."""
    if store_of(folder) is None:
        return
    with reaching(folder) as store, _alone(store):
        there = store.files(folder, ())
        _drop(folder, [name for name in _files(folder, ()) if name not in there or not _is_same(folder / name, there[name])])


def push(folder: Path, *patterns: str) -> None:
    """Put what the copy has below `folder`, as far as the store has not got it; see `pull`. Raises `StoreError`."""
    if store_of(folder) is not None:
        _push(folder, folder, patterns, exact=False)


def push_instead(folder: Path, fresh: Path) -> None:
    """Put what lies below `fresh` in place of all that the store has below `folder`. Raises `StoreError`."""
    if store_of(folder) is not None:
        _push(folder, fresh, (), exact=True)


def _push(folder: Path, source: Path, patterns: Sequence[str], *, exact: bool) -> None:
    with reaching(folder) as store:
        own, there = _files(source, patterns), store.files(folder, patterns)
        differing = [name for name, path in own.items() if name not in there or not _is_same(path, there[name])]
        data, vouching = _in_order(differing)
        store.put({folder / name: own[name] for name in data})
        if exact:
            store.each(lambda name: store.delete(folder / name), sorted(there.keys() - own.keys()))
        store.put({folder / name: own[name] for name in vouching})


def put(path: Path, source: Path | None = None) -> None:
    """Put the file `path` as it is now, or as it will be, which is as `source` is. Raises `StoreError`."""
    store = store_of(path)
    if store is not None and not is_hidden(path.relative_to(store.copy)):
        with reaching(path):
            store.put({path: source or path})


def read_text(path: Path) -> str:
    """What the file `path` says now, of a copy what the store has of it; nothing where there is none. Raises `StoreError`."""
    if store_of(path) is None:
        return path.read_text() if path.exists() else ""
    with reaching(path) as store, suppress(FileNotFoundError):
        return store.read(path).decode()
    return ""


def names_of_folders(folder: Path) -> list[str]:
    """The names of the folders in `folder`. Raises `StoreError`."""
    if store_of(folder) is None:
        return sorted(path.name for path in folder.glob("*") if path.is_dir())
    with reaching(folder) as store:
        return sorted(info.base_name for info in store.inside(folder, deep=False) if not info.is_file)


def move(path: Path, to: Path) -> None:
    """Give the file or folder `path` the path `to`, whose parent is there. Raises `StoreError`."""
    path.rename(to)
    if store_of(path) is not None:
        with reaching(path) as store:
            names = list(store.files(path, ())) or [""]
            for part in _in_order(names)[::-1]:
                store.each(lambda name: store.move(path / name, to / name), part)


def remove(path: Path) -> None:
    """Remove the file or folder `path`, which need not be there. Raises `StoreError`."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    if store_of(path) is not None:
        with reaching(path) as store:
            names = store.files(path, ())
            for name in _in_order(names)[1]:
                store.delete(path / name)
            if names:
                store.delete_folder(path)
            else:
                store.delete(path)


def tally(note: Path) -> int:
    """How often `note` was tallied by any machine since it was removed, this time included. Raises `StoreError`."""
    if store_of(note) is None:
        with note.open("ab") as file:
            file.write(b".")
            return file.tell()
    with reaching(note) as store:
        store.write(note / uuid4().hex, b"")
        return len(store.files(note, ()))


def store_of(path: Path) -> Store | None:
    """The store whose copy `path` lies in, None where it lies in none."""
    scratch = _scratch()
    if not path.is_relative_to(scratch) or path == scratch:
        return None
    top = path.relative_to(scratch).parts[0]
    return Store(top.partition("-")[0], scratch / top)


@contextmanager
def reaching(path: Path) -> Iterator[Store]:
    """The store of `path`; its errors, unlike those of this machine's own disk, become `StoreError`."""
    store = store_of(path)
    assert store is not None
    try:
        yield store
    except OSError as error:
        if error.errno is not None:
            raise
        named = endpoint_of(store.scheme)
        raise StoreError(
            f"{address(path)} cannot be used{f' at {named}' if named else ''} ({first_line(error)}): check the bucket, the "
            "network and the credentials of this machine, and run the same command again"
        ) from error


@contextmanager
def _alone(store: Store) -> Iterator[None]:
    """Of the processes of this machine let one at a time change the copy, so that none fetches what another does."""
    store.copy.mkdir(parents=True, exist_ok=True)
    with (store.copy / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _files(folder: Path, patterns: Sequence[str]) -> dict[str, Path]:
    """The files of the copy below `folder` that match, by name from there."""
    there = (path for pattern in patterns for path in folder.glob(pattern)) if patterns else folder.rglob("*")
    found = {path.relative_to(folder): path for path in sorted(there) if path.is_file()}
    return {name.as_posix(): path for name, path in found.items() if not is_hidden(name)}


def _is_same(path: Path, info: Info) -> bool:
    """Whether the file `path` is the one that `info` describes: as long, and of the same second."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    return (found.st_size, int(found.st_mtime)) == (info.size, info.seconds)


def _in_order(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """`names` in the order in which they may be written: data, then what vouches for it."""
    data: list[str] = []
    vouching: list[str] = []
    for name in names:
        (vouching if PurePosixPath(name).name in VOUCHING else data).append(name)
    return data, vouching


def _drop(folder: Path, names: Iterable[str]) -> None:
    """Remove the files `names` of the copy below `folder`, and the folders that this leaves empty."""
    for name in sorted(names):
        path = folder / name
        path.unlink(missing_ok=True)
        with suppress(OSError):
            for parent in path.parents:
                if parent == folder:
                    break
                parent.rmdir()
