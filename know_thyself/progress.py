"""What a person sees of a running stage: a bar on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

STREAMS = STDOUT, STDERR = 1, 2
LINE_EVERY, LOOK_EVERY = 30.0, 0.5
SPARING = 20.0
"""How many times as long as a look takes, as of an object store, nobody looks again."""


@dataclass(frozen=True, slots=True)
class Position:
    """How far a stage is: `done` of `total`, and a note such as a loss."""

    done: int
    total: int
    note: str = ""


Look = Callable[[], Position]


def plain_line(title: str, unit: str, start: Position, now: Position, seconds: float) -> str:
    """One line of a log: position, pace since `start`, time left."""
    pace = (now.done - start.done) / seconds if seconds > 0 else 0.0
    left = f", {(now.total - now.done) / pace:.0f} s left" if pace > 0 else ""
    note = f", {now.note}" if now.note else ""
    return f"{title}: {now.done} of {now.total} {unit}, {pace:.1f} {unit}/s{left}{note}"


class Spoken(Console):
    """A console that knows the last text that it was given."""

    last = ""

    def print(self, *objects: Any, **options: Any) -> None:
        """See `Console.print`."""
        super().print(*objects, **options)
        if objects and isinstance(objects[0], str):
            self.last = objects[0]


def own_console(stream: int = STDOUT) -> Spoken:
    """A console on a copy of a standard stream, which stays where it is when that is sent elsewhere."""
    return Spoken(file=os.fdopen(os.dup(stream), "w", buffering=1, encoding="utf-8"), highlight=False, soft_wrap=True)


@contextmanager
def streams_to(log: Path) -> Iterator[None]:
    """Standard output and error, also those of native code, go to the end of `log` for as long as the context lasts."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {stream: os.dup(stream) for stream in STREAMS}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        for stream in STREAMS:
            os.dup2(file.fileno(), stream)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for stream, original in kept.items():
            os.dup2(original, stream)
            os.close(original)


@contextmanager
def watch(console: Console, title: str, unit: str, look: Look) -> Iterator[None]:
    """Show how far `look` says that the work inside the context is, until it ends."""
    over = threading.Event()
    show = _show_bar if console.is_terminal else _print_lines
    watcher = threading.Thread(target=show, args=(console, title, unit, look, over), daemon=True)
    began = time.monotonic()
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
    end = look()
    note = f", {end.note}" if end.note else ""
    console.print(f"{title}: {end.done} {unit} in {time.monotonic() - began:.0f} s{note}", highlight=False)


def _print_lines(console: Console, title: str, unit: str, look: Look, over: threading.Event) -> None:
    start, began = look(), time.monotonic()
    while not over.wait(LINE_EVERY):
        console.print(plain_line(title, unit, start, look(), time.monotonic() - began), highlight=False)


def _show_bar(console: Console, title: str, unit: str, look: Look, over: threading.Event) -> None:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    start, began = look(), time.monotonic()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, state="starting")
        took = 0.0
        while not over.wait(max(LOOK_EVERY, SPARING * took)):
            looked = time.monotonic()
            now = look()
            took = time.monotonic() - looked
            pace = (now.done - start.done) / (time.monotonic() - began)
            state = f"{now.done}/{now.total} {unit} {pace:.0f}/s {now.note}" if now.done > start.done else "starting"
            bar.update(task, completed=now.done, total=max(now.total, 1), state=state)
