"""The tables of a study, as a terminal shows them: both judges pool by pool, and the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from know_thyself.evaluation.study import GATES, V1_AFTER, V1_BEFORE, V2_AFTER
from know_thyself.types import Pool

ROWS = {V1_BEFORE: "1 judge v1", V1_AFTER: "3 judge v1, stale", V2_AFTER: "3 judge v2"}


def study_tables(study: Mapping[str, Any]) -> Iterator[Table]:
    """What phase 1 and phase 3 came to in answers and AUROC by pool, and what moved between them."""
    yield _judges(study)
    yield _ledger(study)


def _judges(study: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, caption=_caption(study), caption_justify="left")
    table.add_column("Phase")
    for pool in Pool:
        mark = "" if pool in GATES else " (trained on)"
        table.add_column(f"{pool.replace('_', ' ')}{mark}\nQA / AUROC", justify="right")
    for judge, name in ROWS.items():
        facts = study["judges"][judge]
        table.add_row(name, *(f"{_share(facts[pool]['qa_accuracy'])} / {_auroc(facts[pool]['auroc'])}" for pool in Pool))
    return table


def _ledger(study: Mapping[str, Any]) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column("Ledger")
    for name in ("questions", "kept", "lost", "learned", "still\nunknown", "of known\nkept", "of unknown\nlearned"):
        table.add_column(name, justify="right")
    for pool, row in study["ledger"].items():
        counts = (str(row[key]) for key in ("questions", "kept", "lost", "learned", "still_unknown"))
        table.add_row(pool.replace("_", " "), *counts, _share(row["kept_rate"]), _share(row["learned_rate"]))
    return table


def _caption(study: Mapping[str, Any]) -> str:
    gains = study["paired"]["stale"][Pool.TAUGHT_HELD_OUT]
    told = [
        f"{gain['difference']:+.3f} in {name}, 95 % between {gain['low']:+.3f} and {gain['high']:+.3f}"
        for name, gain in (("AUROC", gains["auroc"]), ("the Brier score", gains["brier"]))
        if gain is not None
    ]
    return f"v2 better than the stale v1 on taught, held out, paired: {'; '.join(told) or 'undefined'}"


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.1%}"


def _auroc(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"
