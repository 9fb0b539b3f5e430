"""Data sets of the Hugging Face hub through `datasets`, streamed, from the hub or from a local folder in the same layout.

All rows of a split are read, whatever number is asked for: what is used of them is drawn by seed after duplicates are merged
(`know_thyself.data.splits`), never the first so many. A split of the known sets is 138,384 rows at most.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself.config import DataConfig
from know_thyself.data.rows import Draft, Part, Row
from know_thyself.errors import ConfigError, DataError, HubError, first_line
from know_thyself.types import Split

BUILDERS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}
"""The reader of `datasets` for each kind of file in a local folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A data set of the hub.

    `subsets` are those whose rows `draft` reads, the default first, each with its numbers of training and validation rows as
    its card states them; none when any will do.
    """

    name: str
    hub: str
    draft: Callable[[Row], Draft]
    subsets: Mapping[str, tuple[int, int]]

    def subset(self, data: DataConfig) -> str | None:
        """The subset that `data` asks for. Raises `ConfigError` for one that is not known."""
        chosen = data.subset or next(iter(self.subsets), None)
        if self.subsets and chosen not in self.subsets:
            raise ConfigError(f"data.subset={chosen!r} is no subset of {self.name}: use {' or '.join(self.subsets)}")
        return chosen


def hub_parts(source: Source, data: DataConfig) -> list[Part]:
    """The training and validation split of `source`, their rows still to be read.

    Raises `ConfigError` for impossible settings and, while rows are read, `DataError`, or `HubError` when the hub is out of
    reach.
    """
    subset = source.subset(data)
    if data.path is not None and data.revision is not None:
        raise ConfigError(
            f"data.revision={data.revision!r} is for the hub, and data.path={data.path!r} is a folder: leave one out"
        )
    splits = {data.train_split: Split.TRAIN, data.validation_split: Split.VALIDATION}
    if len(splits) < 2:
        raise ConfigError(f"data.train-split and data.validation-split are both {data.train_split!r}: give two splits")
    if data.path is None:
        return [
            Part(f"{source.hub} {name}", split, _from_hub(source.hub, subset, data, name)) for name, split in splits.items()
        ]
    folder = Path(data.path).expanduser()
    return [Part(f"{folder} {name}", split, _from_folder(folder, subset, name)) for name, split in splits.items()]


def _from_hub(hub: str, subset: str | None, data: DataConfig, split: str) -> Iterator[Row]:
    import datasets
    import httpx

    told = f"data set {hub} cannot be read from the hub"
    try:
        yield from _stream(hub, name=subset, revision=data.revision, split=split)
    except datasets.exceptions.DatasetNotFoundError as error:
        remedy = "check its name and, if it is gated, your access (HF_TOKEN), or give a local copy by --data.path"
        raise DataError(f"{told} ({first_line(error)}): {remedy}") from error
    except (OSError, httpx.HTTPError) as error:
        remedy = "check the network, or give a local copy by --data.path"
        raise HubError(f"{told} ({first_line(error)}): {remedy}") from error
    except (ValueError, RuntimeError) as error:
        remedy = "check --data.subset, --data.revision and the names of its splits"
        raise DataError(f"{told} ({first_line(error)}): {remedy}") from error


def _from_folder(folder: Path, subset: str | None, split: str) -> Iterator[Row]:
    from datasets.exceptions import DatasetsError

    files = _files(folder, subset, split)
    try:
        yield from _stream(BUILDERS[files[0].suffix], data_files=[str(file) for file in files], split="train")
    except (OSError, ValueError, RuntimeError, DatasetsError) as error:
        raise DataError(f"{files[0]} cannot be read ({first_line(error)}): write it again") from error


def _stream(path: str, **settings: Any) -> Iterator[Row]:
    import datasets

    yield from datasets.load_dataset(path, streaming=True, **settings)


def _files(folder: Path, subset: str | None, split: str) -> list[Path]:
    """The files of `split`, all of one kind: `<subset>/`, `data/` or `folder` itself hold `<split>.*` or `<split>-*.*`."""
    if not folder.is_dir():
        raise DataError(f"data.path={folder} is no folder: give a copy of the data set's repository")
    places = [folder / place for place in (subset, "data", ".") if place is not None]
    for place in places:
        found = {kind: sorted({*place.glob(f"{split}{kind}"), *place.glob(f"{split}-*{kind}")}) for kind in BUILDERS}
        kinds = [kind for kind, files in found.items() if files]
        if len(kinds) > 1:
            raise DataError(f"{place} holds {split} files of several kinds ({', '.join(kinds)}): leave one kind")
        if kinds:
            return found[kinds[0]]
    where = ", ".join(str(place) for place in places)
    raise DataError(f"no {split} file ({split}.* or {split}-*.*, {', '.join(BUILDERS)}) is in {where}: see --data.subset")
