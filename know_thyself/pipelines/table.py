"""The summary table of a run, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from know_thyself.types import Split

SHOWN = {Split.TRAIN: "Train", Split.DEV: "Dev", Split.VALIDATION: "Val"}


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Per epoch and split: judgment accuracy, answer accuracy, AUROC; the chosen epoch is starred."""
    table = Table(title="What the model knows about what it knows", caption=_caption(summary), title_justify="left", caption_justify="left")
    table.add_column("Epoch", justify="right")
    for name in SHOWN.values():
        for number in ("Judg", "QA", "AUROC"):
            table.add_column(f"{name} {number}", justify="right")
    for row in summary["epochs"]:
        star = "*" if row["epoch"] == summary["best_epoch"] else ""
        cells = [cell for split in SHOWN for cell in _cells(row[split])]
        table.add_row(f"{row['epoch']}{star}", *cells)
    return table


def _cells(facts: Mapping[str, Any]) -> list[str]:
    auroc = "undefined" if facts["auroc"] is None else f"{facts['auroc']:.4f}"
    return [_percent(facts["judgment_accuracy"]), _percent(facts["qa_accuracy"]), auroc]


def _percent(share: float | None) -> str:
    return "undefined" if share is None else f"{share:.1%}"


def _caption(summary: Mapping[str, Any]) -> str:
    facts = next(row for row in summary["epochs"] if row["epoch"] == summary["best_epoch"])[Split.VALIDATION]
    if facts["auroc"] is None or facts["auroc_low"] is None:
        return f"* chosen on dev. AUROC undefined: {facts['undefined'].get('auroc', 'too few questions')}"
    return (
        f"* chosen on dev. Validation: AUROC {facts['auroc']:.3f}, 95 % between {facts['auroc_low']:.3f} and "
        f"{facts['auroc_high']:.3f}, on {facts['questions']} questions; always saying the commoner verdict: {facts['majority']:.1%}"
    )
