"""One object store, as the paths of its working copy see it: Arrow's file systems for S3 and Google Cloud Storage."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

ENVIRONMENT = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION")
"""What says where a store is, and no secret: a driver tells it to its workers. Credentials are each machine's own."""
AT_ONCE, CONNECT_SECONDS = 8, 5.0
"""Files on their way at a time, and seconds that a machine has to answer."""
PATIENT, HASTY = 8, 3
"""Times that anything is tried, the pauses between them growing up to a minute: in the midst of work, and before it begins."""
RETRY_SECONDS = {PATIENT: 60.0, HASTY: 5.0}
"""The same for Google Cloud Storage."""


def endpoint_of(scheme: str) -> str:
    """The address of a store that is not the cloud's own, empty where it is."""
    if scheme != "s3":
        return ""
    return os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether the path `name` is not hidden, and is of one of `patterns`, if there are any; * stands for no slash."""
    path = PurePosixPath(name)
    if is_hidden(path):
        return False
    return not patterns or any(
        len(path.parts) == len(PurePosixPath(pattern).parts) and path.match(pattern) for pattern in patterns
    )


def is_hidden(path: PurePath) -> bool:
    """Whether `path`, or a folder that it leads through, is hidden."""
    return any(part.startswith(".") for part in path.parts)


@dataclass(frozen=True, slots=True)
class Info:
    """What a store says of an object, or of a folder, which is what objects' names have in common."""

    base_name: str
    name: str
    is_file: bool
    size: int
    seconds: int
    """When it was written, by the store's own clock."""


@dataclass(frozen=True, slots=True)
class Store:
    """The buckets of one address, and their working copies below `copy`. Raises the `OSError`s of Arrow."""

    scheme: str
    copy: Path

    def key(self, path: Path) -> str:
        """The bucket and name of what lies at `path`."""
        return path.relative_to(self.copy).as_posix()

    def arrow(self, path: Path) -> Any:
        """The file system of the bucket of `path`."""
        return _arrow(self.scheme, _bucket(self.key(path)), endpoint_of(self.scheme), PATIENT)

    def has_bucket(self, path: Path) -> bool:
        """Whether the bucket of `path` is there, tried with less patience."""
        from pyarrow.fs import FileType

        bucket = _bucket(self.key(path))
        found = _arrow(self.scheme, bucket, endpoint_of(self.scheme), HASTY).get_file_info(bucket)
        return bool(found.type != FileType.NotFound)

    def inside(self, folder: Path, *, deep: bool) -> list[Info]:
        """What lies in `folder`, or `deep` below it."""
        from pyarrow.fs import FileSelector

        selector = FileSelector(self.key(folder), allow_not_found=True, recursive=deep)
        return [self._info(folder, info) for info in self.arrow(folder).get_file_info(selector)]

    def files(self, folder: Path, patterns: Sequence[str]) -> dict[str, Info]:
        """The files below `folder` that match, by name from there."""
        deep = not patterns or any("/" in pattern for pattern in patterns)
        found = {info.name: info for info in self.inside(folder, deep=deep) if info.is_file}
        return {name: found[name] for name in sorted(found) if _matches(name, patterns)}

    def info(self, path: Path) -> Info | None:
        """What is said of `path` itself, None when there is nothing."""
        from pyarrow.fs import FileType

        info = self.arrow(path).get_file_info(self.key(path))
        return None if info.type == FileType.NotFound else self._info(path.parent, info)

    def _info(self, folder: Path, info: Any) -> Info:
        from pyarrow.fs import FileType

        name = info.path.removeprefix(self.key(folder)).strip("/")
        is_file = info.type == FileType.File
        seconds = (info.mtime_ns or 0) // 10**9 if is_file else 0
        return Info(base_name=info.base_name, name=name, is_file=is_file, size=info.size or 0, seconds=seconds)

    def fetch(self, path: Path, info: Info) -> None:
        """Bring the object of `path`, which `info` describes, whole, or not at all where it has gone meanwhile."""
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._copy(self.key(path), str(partial), source_filesystem=self.arrow(path))
            os.utime(partial, (info.seconds, info.seconds))
            partial.replace(path)
        except FileNotFoundError:
            return
        finally:
            partial.unlink(missing_ok=True)

    def put(self, files: Mapping[Path, Path]) -> None:
        """Put each of `files` as the object of its path, and give it the time at which the store has it."""
        self.each(self._put, list(files.items()))

    def _put(self, file: tuple[Path, Path]) -> None:
        path, source = file
        self._copy(str(source), self.key(path), destination_filesystem=self.arrow(path))
        if (info := self.info(path)) is not None:
            os.utime(source, (info.seconds, info.seconds))

    @staticmethod
    def _copy(source: str, destination: str, **filesystems: Any) -> None:
        from pyarrow.fs import LocalFileSystem, copy_files

        local = LocalFileSystem()
        copy_files(source, destination, **{"source_filesystem": local, "destination_filesystem": local, **filesystems})

    def read(self, path: Path) -> bytes:
        """The object of `path`."""
        with self.arrow(path).open_input_stream(self.key(path)) as stream:
            return bytes(stream.read())

    def write(self, path: Path, content: bytes) -> None:
        """Make `content` the object of `path`, of which there is no copy."""
        with self.arrow(path).open_output_stream(self.key(path)) as stream:
            stream.write(content)

    def delete(self, path: Path) -> None:
        """Remove the object of `path`, if there is one."""
        with suppress(FileNotFoundError):
            self.arrow(path).delete_file(self.key(path))

    def delete_folder(self, path: Path) -> None:
        """Remove all objects below `path`, of which there is one at least."""
        self.arrow(path).delete_dir(self.key(path))

    def move(self, path: Path, to: Path) -> None:
        """Give the object of `path`, if there is one, the name of `to`."""
        with suppress(FileNotFoundError):
            self.arrow(path).move(self.key(path), self.key(to))

    @staticmethod
    def each(do: Callable[[Any], None], items: Sequence[Any]) -> None:
        """`do` it with each of `items`, a few at a time."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(do, items):
                pass


def _bucket(key: str) -> str:
    return key.partition("/")[0]


@lru_cache
def _arrow(scheme: str, bucket: str, endpoint: str, attempts: int) -> Any:
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=RETRY_SECONDS[attempts]))
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    protocol, _, host = endpoint.rpartition("://")
    return fs.S3FileSystem(
        region=region if endpoint else fs.resolve_s3_region(bucket),
        endpoint_override=host or None,
        scheme=protocol or "https",
        connect_timeout=CONNECT_SECONDS,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=attempts),
        allow_delayed_open=True,
    )
