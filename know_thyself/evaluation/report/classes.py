"""The tables of classes: what was claimed against what was measured, and how often each class is either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from know_thyself.evaluation.report.words import Facts
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import LabelMode


class Cell(NamedTuple):
    """A number of questions, and its share of the row (0..1; None of an empty one)."""

    size: int
    share: float | None


class ConfusionTable(NamedTuple):
    """One judge's confusion: for each class measured its name, its cells by class claimed, and its number of questions."""

    title: str
    classes: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Cell], int]]


def class_names(mode: str) -> list[str]:
    """The classes of a label mode, the most able first."""
    return [str(verdict) for verdict in VERDICT_WORDS[LabelMode(mode)]]


def confusion_table(title: str, facts: Facts, classes: Sequence[str]) -> ConfusionTable:
    """The confusion of `facts`: rows measured, columns claimed, shares of the row."""
    rows = []
    for name, counts in zip(classes, facts["confusion"], strict=True):
        rows.append((name, _cells(counts), sum(counts)))
    return ConfusionTable(title, classes, rows)


def distribution(judges: Sequence[tuple[str, Facts]], classes: Sequence[str]) -> list[tuple[str, list[Cell]]]:
    """How often each class was measured and how often each of `judges` claimed it: a title and a cell per class.

    The judges judged the same questions, but for what one of them could not judge; what was measured is told of the last.
    """
    if not judges:
        return []
    _, last = judges[-1]
    measured = [sum(counts) for counts in last["confusion"]]
    claimed = [(f"claimed, {title}", [sum(column) for column in _columns(facts)]) for title, facts in judges]
    return [(title, _cells(counts)) for title, counts in [("measured", measured), *claimed]]


def _columns(facts: Facts) -> list[tuple[int, ...]]:
    return list(zip(*facts["confusion"], strict=True))


def _cells(counts: Sequence[int]) -> list[Cell]:
    total = sum(counts)
    return [Cell(count, count / total if total else None) for count in counts]
