"""Two experiments on the questions that both measured: paired differences of their chosen judges, validation alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from know_thyself.errors import ConfigError, DataError
from know_thyself.evaluation.bootstrap import at_once, bootstrap_intervals
from know_thyself.evaluation.evidence import in_common
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores
from know_thyself.evaluation.metrics.summary import statistics_of
from know_thyself.experiment import Experiment
from know_thyself.pipelines.reading import read_chosen

SHOWN = ("judgment_accuracy", "qa_accuracy", "macro_f1", "auroc", "auroc_all_correct", "auroc_soft", "ece", "brier", "aurc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A number of both experiments, by how much the second is higher, and the 95 % interval of that (None: no interval)."""

    first: float | None
    second: float | None
    difference: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two experiments differ by on `questions` shared questions, by number; `rules` are their label rules."""

    names: tuple[str, str]
    rules: tuple[str, str]
    questions: int
    differences: Mapping[str, Difference]


def compare_experiments(first: Experiment, second: Experiment, *, any_rule: bool = False, seed: int = 0) -> Comparison:
    """The chosen judges of both, on the validation questions that both hold a label and a judgment of.

    Raises `ConfigError` for unlike label rules or modes unless `any_rule`, `DataError` where no question is shared,
    `StoreError` where an experiment is not finished.
    """
    sides = read_chosen(first), read_chosen(second)
    rules = (sides[0].rule, sides[1].rule)
    if rules[0] != rules[1] and not any_rule:
        raise ConfigError(
            f"{first.name} labels by {rules[0]}, {second.name} by {rules[1]}: their numbers are about different events; "
            "give --any-rule to set them side by side all the same"
        )
    shared = in_common([side.measured for side in sides])
    if not shared[0]:
        raise DataError(f"{first.name} and {second.name} share no validation question: compare experiments on the same data")
    scores = [side.scores(measured) for side, measured in zip(sides, shared, strict=True)]
    return Comparison(
        names=(first.name, second.name),
        rules=rules,
        questions=len(shared[0]),
        differences=_differences(scores[0], scores[1], seed),
    )


def _differences(first: Scores, second: Scores, seed: int) -> dict[str, Difference]:
    of_first, of_second = statistics_of(first), statistics_of(second)

    def statistics(weights: Column) -> dict[str, Floats]:
        one, other = of_first(weights), of_second(weights)
        return {name: other[name] - one[name] for name in SHOWN if name in one and name in other}

    values = [at_once(side, len(first)) for side in (of_first, of_second)]
    apart = at_once(statistics, len(first))
    intervals = bootstrap_intervals(statistics, first.group, seed=seed)
    found = {}
    for name in apart:
        low, high = intervals.get(name) or (None, None)
        found[name] = Difference(first=values[0][name], second=values[1][name], difference=apart[name], low=low, high=high)
    return found


def comparison_table(found: Comparison) -> Table:
    """The differences as a terminal shows them; those whose interval excludes 0 are starred."""
    caption = f"{found.questions} shared validation questions; * the 95 % interval excludes 0 (paired, groups resampled)"
    if found.rules[0] != found.rules[1]:
        caption += f"; unlike label rules: {found.rules[0]} against {found.rules[1]}"
    table = Table("", *found.names, "difference", box=SIMPLE_HEAD, caption=caption, caption_justify="left")
    for name, row in found.differences.items():
        table.add_row(name, _shown(row.first), _shown(row.second), _told(row))
    return table


def _shown(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4f}"


def _told(row: Difference) -> str:
    if row.difference is None:
        return "undefined"
    if row.low is None or row.high is None:
        return f"{row.difference:+.4f} (no interval)"
    star = " *" if np.sign(row.low) * np.sign(row.high) > 0 else ""
    return f"{row.difference:+.4f} [{row.low:+.4f}, {row.high:+.4f}]{star}"
