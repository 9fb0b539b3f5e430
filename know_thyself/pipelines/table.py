"""The summary table of a run, as a terminal shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from know_thyself.types import Split

COLUMNS = (
    ("Train Judg", Split.TRAIN, "judgment_accuracy"),
    ("Train QA", Split.TRAIN, "qa_accuracy"),
    ("Train AUROC", Split.TRAIN, "auroc"),
    ("Dev AUROC", Split.DEV, "auroc"),
    ("Val Judg", Split.VALIDATION, "judgment_accuracy"),
    ("Val QA", Split.VALIDATION, "qa_accuracy"),
    ("Val AUROC", Split.VALIDATION, "auroc"),
)


def summary_table(summary: Mapping[str, Any]) -> Table:
    """Per epoch: judgment accuracy, answer accuracy and AUROC of train and validation; the chosen epoch is starred."""
    table = Table(box=SIMPLE_HEAD, caption=_caption(summary), caption_justify="left")
    table.add_column("Epoch", justify="right")
    for name, _, _ in COLUMNS:
        table.add_column(name.replace(" ", "\n"), justify="right")
    for row in summary["epochs"]:
        star = "*" if row["epoch"] == summary["best_epoch"] else ""
        table.add_row(f"{row['epoch']}{star}", *(_cell(number, row[split][number]) for _, split, number in COLUMNS))
    return table


def evaluation_table(facts: Mapping[str, Mapping[str, Any]]) -> Table:
    """Per split: questions, judgment accuracy beside the majority line, answer accuracy and AUROC."""
    table = Table("split", box=SIMPLE_HEAD)
    names = ("questions", "judgment_accuracy", "majority", "qa_accuracy", "auroc")
    for name in names:
        table.add_column(name.replace("_", "\n"), justify="right")
    for split, numbers in facts.items():
        table.add_row(split, *(str(numbers[name]) if name == "questions" else _cell(name, numbers[name]) for name in names))
    return table


def _cell(number: str, value: float | None) -> str:
    if value is None:
        return "undefined"
    return f"{value:.4f}" if number == "auroc" else f"{value:.1%}"


def _caption(summary: Mapping[str, Any]) -> str:
    facts = next(row for row in summary["epochs"] if row["epoch"] == summary["best_epoch"])[Split.VALIDATION]
    if facts["auroc"] is None or facts["auroc_low"] is None:
        return f"* chosen on dev. AUROC undefined: {facts['undefined'].get('auroc', 'too few questions')}"
    return (
        f"* chosen on dev. Validation: AUROC {facts['auroc']:.3f}, 95 % between {facts['auroc_low']:.3f} and "
        f"{facts['auroc_high']:.3f}, on {facts['questions']} questions; always giving the commonest verdict: "
        f"{facts['majority']:.1%} right"
    )
