"""Any question-answering data set of the hub, by the columns that hold what (`data.columns`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from know_thyself.config import ColumnsConfig
from know_thyself.data.hub import Source
from know_thyself.data.rows import Draft, Row
from know_thyself.errors import DataError


def mapped_source(hub: str, columns: ColumnsConfig, logged: bool) -> Source:
    """The hub's data set `hub`, read by `columns`; where logs are read, the answers may be missing."""
    return Source(name=hub, hub=hub, draft=partial(draft, columns=columns, logged=logged), subsets={})


def draft(row: Row, columns: ColumnsConfig, logged: bool = False) -> Draft:
    """The parts of a question in `row`. Raises `DataError` for a column that is not there."""
    answers = columns.answers if not logged or columns.answers.partition(".")[0] in row else None
    found = {
        name: None if path is None else _at(row, path, f"--data.columns.{name}")
        for name, path in {**columns.model_dump(), "answers": answers}.items()
    }
    return Draft(**found)


def _at(row: Row, path: str, flag: str) -> Any:
    """What stands at the dotted `path` in `row`: of a list of objects the value of each, None below a null."""
    value: Any = row
    for key in path.split("."):
        if isinstance(value, list):
            value = [_of(item, key, row, path, flag) for item in value]
        else:
            value = _of(value, key, row, path, flag)
    return value


def _of(value: Any, key: str, row: Row, path: str, flag: str) -> Any:
    if value is None:
        return None
    if not isinstance(value, dict) or key not in value:
        raise DataError(f"there is no column {path!r} ({flag}): the data set has {', '.join(_names(row))}")
    return value[key]


def _names(row: Row, above: str = "") -> Iterator[str]:
    """The columns of `row`, nested ones dotted."""
    for name, value in row.items():
        inner = value[0] if isinstance(value, list) and value else value
        if isinstance(inner, dict):
            yield from _names(inner, f"{above}{name}.")
        else:
            yield f"{above}{name}"
