"""Which data sets there are by name, and the one way to read any of them."""

from __future__ import annotations

from pathlib import Path

from know_thyself.config import WORLD, DataConfig, RunConfig
from know_thyself.data import files, hotpotqa, nq_open, triviaqa
from know_thyself.data.hub import Source, hub_parts
from know_thyself.data.mapped import mapped_source
from know_thyself.data.rows import Loaded, Reading, read_parts
from know_thyself.errors import ConfigError
from know_thyself.models import packaged_world

SOURCES = {source.name: source for source in (triviaqa.SOURCE, hotpotqa.SOURCE, nq_open.SOURCE)}
"""A name here is the data set, though a folder in the working directory has the same name: that one is `./name`."""


def find_source(config: RunConfig) -> Source | None:
    """The hub data set that `config` names, None when it names a folder. Raises `ConfigError` when it names neither."""
    name = config.dataset
    if source := SOURCES.get(name):
        return source
    is_folder, could_be_id = Path(name).expanduser().is_dir(), name.count("/") == 1 and name[0] not in ".~/" and name[-1] != "/"
    if could_be_id and (config.data.path is not None or not is_folder):
        return mapped_source(name, config.data.columns, config.label.source == "logs")
    if name == WORLD or is_folder or name[0] in ".~/" or name[-1] == "/":
        return None
    known = ", ".join([WORLD, *SOURCES])
    raise ConfigError(
        f"dataset {name!r} is no folder here, no hub id (owner/name) and none of {known}: check its spelling, and write "
        "a folder that has the name of one of these as ./name"
    )


def load(config: RunConfig) -> Loaded:
    """All questions of the data set that `config` names. Raises `DataError` or `ConfigError`."""
    source = find_source(config)
    logged = config.label.source == "logs"
    if logged and (config.dataset == WORLD or config.dataset in SOURCES):
        raise ConfigError(f"label.source=logs needs counts in the question files, and {config.dataset} has none: give a folder")
    if source is not None:
        if source.subsets:
            _refuse(config.data, ("columns",), f"{source.name} has columns of its own")
        reading = Reading(dataset=source.name, draft=source.draft, closed_book=config.data.closed_book, logged=logged)
        return read_parts(hub_parts(source, config.data), reading)
    _refuse(
        config.data, ("path", "subset", "revision", "train_split", "validation_split", "columns"), "a folder has none of it"
    )
    folder = packaged_world() / "questions" if config.dataset == WORLD else Path(config.dataset).expanduser()
    reading = Reading(dataset=folder.name, draft=files.draft, closed_book=config.data.closed_book, logged=logged)
    return read_parts(files.folder_parts(folder, config.data.malformed), reading)


def _refuse(data: DataConfig, names: tuple[str, ...], reason: str) -> None:
    """Raise `ConfigError` when one of the settings `names`, which would not be read, is given."""
    for name in names:
        value = getattr(data, name)
        if value != type(data).model_fields[name].default:
            flag = name.replace("_", "-")
            raise ConfigError(f"data.{flag}={value} is for hub data sets, and {reason}: leave it out")
