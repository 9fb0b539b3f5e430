"""The knowledge ledger: what a model came to know between two measurements of the same questions, and what it lost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.evidence import Examined, in_common
from know_thyself.evaluation.metrics.scores import names_of
from know_thyself.types import Ability, Verdict

SHOWN = 5
"""Questions of each kind that are shown."""


class Change(NamedTuple):
    """A question as it was examined before and after."""

    before: Examined
    after: Examined


KINDS: dict[str, Callable[[bool, bool], bool]] = {
    "kept": lambda knew, knows: knew and knows,
    "lost": lambda knew, knows: knew and not knows,
    "learned": lambda knew, knows: not knew and knows,
    "still_unknown": lambda knew, knows: not knew and not knows,
}
"""Where a question may have gone; to know it is to answer it right in every trial."""


def changes(before: Sequence[Examined], after: Sequence[Examined]) -> list[Change]:
    """The questions that were examined both times, in the order of `before`."""
    return [Change(*pair) for pair in zip(*in_common([before, after]), strict=True)]


def ledger_facts(found: Sequence[Change], *, seed: int = 0) -> dict[str, Any]:
    """Counts of each kind, the rates of keeping and of learning, the flow between abilities, and hallucination.

    `kept_rate` is the share of what was known that still is, `learned_rate` the share of the rest that now is known. `flow`
    counts questions by their ability before (rows) and after (columns), each *can, uncertain, cannot*. Hallucination is the
    share of trials that are wrong although the judge said *can*, over all questions: what a gate would have let through. Rates
    stand with the ends of their 95 % interval (groups resampled), None where there are too few.
    """
    kinds = [_kind(change) for change in found]
    knew = np.array([change.before.label.all_correct for change in found], dtype=bool)
    knows = np.array([change.after.label.all_correct for change in found], dtype=np.float64)
    group = names_of(change.before.question.group for change in found)
    wrong = {
        "hallucination_before": np.array([_hallucinated(change.before) for change in found], dtype=np.float64),
        "hallucination_after": np.array([_hallucinated(change.after) for change in found], dtype=np.float64),
    }
    return {
        "questions": len(found),
        **{kind: kinds.count(kind) for kind in KINDS},
        **_rate("kept_rate", knows[knew], group[knew], seed),
        **_rate("learned_rate", knows[~knew], group[~knew], seed),
        **{name: value for each, shares in wrong.items() for name, value in _rate(each, shares, group, seed).items()},
        "flow": [[_moved(found, old, new) for new in Ability] for old in Ability],
    }


def ledger_examples(found: Sequence[Change]) -> dict[str, list[dict[str, Any]]]:
    """Some questions that were learned, and some that were lost, with the trials right before and after."""
    return {kind: [_example(change) for change in found if _kind(change) == kind][:SHOWN] for kind in ("learned", "lost")}


def _kind(change: Change) -> str:
    return next(kind for kind, holds in KINDS.items() if holds(change.before.label.all_correct, change.after.label.all_correct))


def _hallucinated(examined: Examined) -> float:
    return (1.0 - examined.label.accuracy) if examined.judgment.verdict is Verdict.CAN else 0.0


def _moved(found: Sequence[Change], old: Ability, new: Ability) -> int:
    return sum(change.before.label.ability is old and change.after.label.ability is new for change in found)


def _rate(name: str, values: np.ndarray[Any, np.dtype[np.float64]], group: np.ndarray[Any, Any], seed: int) -> dict[str, Any]:
    low, high = mean_interval(values, group, seed=seed) or (None, None)
    return {name: float(values.mean()) if len(values) else None, f"{name}_low": low, f"{name}_high": high}


def _example(change: Change) -> dict[str, Any]:
    before, after = change.before.label, change.after.label
    return {
        "question": change.before.question.text,
        "answers": list(change.before.question.answers),
        "before": f"{before.num_correct} of {before.num_graded}",
        "after": f"{after.num_correct} of {after.num_graded}",
        "verdict_before": str(change.before.judgment.verdict),
        "verdict_after": str(change.after.judgment.verdict),
    }
