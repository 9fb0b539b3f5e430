"""What the service writes down, off the event loop: judgments as bare numbers, and whether answers were right.

It never stands in the way of judging. A score that cannot be written is lost and counted; feedback that cannot be is refused.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any, Literal, Self

from know_thyself.errors import ConfigError, KnowThyselfError
from know_thyself.journal import LAYOUT
from serve.metrics import Meter
from serve.policy import Kept

BATCH = 512
"""Lines of one transaction."""
WAITING = 8192
"""Lines that may wait to be written."""
PATIENCE = 2.0
"""Seconds to wait for a database that another process locks."""
TRIM_EVERY = 60.0
"""Seconds between two looks for what is too old or too much."""
DAY = 86_400

Table = Literal["scores", "feedback"]
INSERT: dict[Table, str] = {
    "scores": "INSERT INTO scores (at, judge, confidence, p_correct, verdict, decision) VALUES (?, ?, ?, ?, ?, ?)",
    "feedback": "INSERT INTO feedback (id, place, at, judge, score, is_calibrated, correct) VALUES (?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (id, place) DO UPDATE SET correct = excluded.correct",
}
TOO_OLD = "DELETE FROM {table} WHERE at < ?"
TOO_MANY = "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY at DESC, rowid DESC LIMIT -1 OFFSET ?)"

log = logging.getLogger("serve")


class JournalError(KnowThyselfError):
    """Something could not be written down."""


@dataclass(frozen=True, slots=True)
class _Line:
    """A row of a table, and where someone waits for it to be written."""

    table: Table
    row: tuple[Any, ...]
    written: Future[None]


class Journal:
    """Writes to `file` by one thread, a batch at a time, and keeps what `kept` says; a context manager, which writes the rest.

    Losses are counted by `meter`. Raises `ConfigError` when the file cannot be a journal.
    """

    def __init__(self, file: Path, kept: Kept, meter: Meter) -> None:
        self._kept, self._meter = kept, meter
        self._lines: Queue[_Line | None] = Queue(WAITING)
        self._trimmed_at = -TRIM_EVERY
        self._is_failing = False
        self._database = _opened(file)
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lines.put(None)
        self._thread.join()
        self._database.close()

    @property
    def oldest(self) -> float:
        """Since when, in seconds since 1970, a judgment is young enough to be kept."""
        return time.time() - self._kept.days * DAY

    def note_scores(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Write `rows` of the table of scores some time soon."""
        for row in rows:
            self._put(_Line("scores", row, Future()))

    async def keep_feedback(self, row: tuple[Any, ...]) -> None:
        """Write a `row` of the table of feedback, in place of an earlier one. Raises `JournalError` when it cannot be."""
        line = _Line("feedback", row, Future())
        self._put(line)
        await asyncio.wrap_future(line.written)

    def _put(self, line: _Line) -> None:
        try:
            self._lines.put_nowait(line)
        except Full:
            self._lose([line], "too much waits to be written")

    def _work(self) -> None:
        """Write batch after batch until the journal is closed."""
        is_open = True
        while is_open:
            lines, is_open = self._next()
            try:
                self._write(lines)
            except sqlite3.Error as error:
                self._lose(lines, str(error))
            else:
                self._is_failing = False
                for line in lines:
                    line.written.set_result(None)

    def _next(self) -> tuple[list[_Line], bool]:
        """The lines to write next, one at least unless the journal was closed, and whether more may come."""
        found = [self._lines.get()]
        while found[-1] is not None and len(found) < BATCH:
            try:
                found.append(self._lines.get_nowait())
            except Empty:
                break
        waiting = [line for line in found if line is not None and line.written.set_running_or_notify_cancel()]
        return waiting, found[-1] is not None

    def _write(self, lines: Sequence[_Line]) -> None:
        with self._database:
            for table, insert in INSERT.items():
                self._database.executemany(insert, [line.row for line in lines if line.table == table])
            if time.monotonic() >= self._trimmed_at + TRIM_EVERY:
                self._trim()
                self._trimmed_at = time.monotonic()

    def _trim(self) -> None:
        for table in INSERT:
            self._database.execute(TOO_OLD.format(table=table), (self.oldest,))
            self._database.execute(TOO_MANY.format(table=table), (self._kept.rows,))

    def _lose(self, lines: Sequence[_Line], why: str) -> None:
        if not self._is_failing:
            log.error("the journal cannot be written: %s", why)
        self._is_failing = True
        for line in lines:
            self._meter.loss(line.table)
            line.written.set_exception(JournalError(why))


def _opened(file: Path) -> sqlite3.Connection:
    try:
        database = sqlite3.connect(file, timeout=PATIENCE, check_same_thread=False)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = NORMAL")
        database.executescript(LAYOUT)
    except sqlite3.Error as error:
        raise ConfigError(f"{file} cannot be the journal ({error}): name another file, in a folder that is there") from error
    return database
