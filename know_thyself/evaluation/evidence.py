"""Bring questions, grades and judgments together: what an epoch is evaluated on and trained from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from know_thyself import labeling, prompts
from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.calibration import Calibration, Fitted, choose_calibration
from know_thyself.evaluation.metrics.scores import Floats, Scores, names_of
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.labeling import AbilityRule
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import AbilityLabel, Judgment, LabelMode, Question

SHOWN = 8
"""Examples of each kind that a report shows."""
UNREAD, UNGRADED = "too long to judge", "could not be graded"
"""Why a question has no part in the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A question with its measured ability and the model's judgment of it."""

    question: Question
    label: AbilityLabel
    judgment: Judgment


def collect(
    questions: Sequence[Question], graded: pa.Table, examined: pa.Table, rule: AbilityRule, mode: LabelMode
) -> list[Examined]:
    """The questions that have both a label and a judgment, in their order; `graded` and `examined` are stage tables.

    A question drops out when one of its trials could not be graded, or its judge prompt was too long to read: see `left_out`.
    """
    grades, reads = _grades(graded), _reads(examined)
    found = []
    for question in questions:
        label = labeling.label(question.id, grades[question.id], rule)
        read = reads.get(question.id)
        if label is not None and read is not None:
            found.append(Examined(question=question, label=label, judgment=_judgment(read, mode)))
    return found


def in_common(sides: Sequence[Sequence[Examined]]) -> list[list[Examined]]:
    """Of each of `sides` the questions that all of them hold, in the order of the first."""
    by_id = [{examined.question.id: examined for examined in side} for side in sides]
    shared = [name for name in by_id[0] if all(name in side for side in by_id)]
    return [[side[name] for name in shared] for side in by_id]


def left_out(questions: Sequence[Question], graded: pa.Table, examined: pa.Table, rule: AbilityRule) -> Counter[str]:
    """How many of `questions` have no label or no judgment, and so no part in what `collect` finds, by reason."""
    grades, reads = _grades(graded), _reads(examined)
    unread = [question for question in questions if question.id not in reads]
    ungraded = [q for q in questions if q.id in reads and labeling.label(q.id, grades[q.id], rule) is None]
    return +Counter({UNREAD: len(unread), UNGRADED: len(ungraded)})


def _grades(graded: pa.Table) -> dict[str, list[bool | None]]:
    return dict(zip(graded["id"].to_pylist(), graded["correct"].to_pylist(), strict=True))


def _reads(examined: pa.Table) -> dict[str, dict[str, Any]]:
    """The rows of the questions whose verdict position could be read, by id."""
    rows = examined.select(["id", "probabilities", "mass"]).to_pylist()
    return {row["id"]: row for row in rows if row["probabilities"] is not None}


def _judgment(read: dict[str, Any], mode: LabelMode) -> Judgment:
    probabilities = tuple(read["probabilities"])
    return Judgment(
        question_id=read["id"],
        verdict=prompts.read_verdict(probabilities, mode),
        confidence=labeling.confidence(probabilities, mode),
        mass=read["mass"],
        probabilities=probabilities,
    )


def fit_calibration(examined: Sequence[Examined], mode: LabelMode) -> Calibration | None:
    """The map from what is said to p_correct, fitted on `examined`, the calibration questions; None without two groups."""
    fitted = cross_fit(examined, mode)
    return None if fitted is None else fitted.calibration


def cross_fit(examined: Sequence[Examined], mode: LabelMode) -> Fitted | None:
    """That map with what each candidate for it lost."""
    group = names_of(e.question.group for e in examined)
    outcome = np.array([e.label.accuracy for e in examined], dtype=np.float64)
    return choose_calibration(_probabilities(examined, mode), outcome, group)


def scores_of(examined: Sequence[Examined], mode: LabelMode, calibration: Calibration | None) -> Scores:
    """`examined` as the columns that metrics are computed from, its forecasts by `calibration`.

    Without one, the confidence of two verdicts stands as the forecast that it was trained to be, and of three there is none.
    """
    verdicts = list(VERDICT_WORDS[mode])
    probabilities = _probabilities(examined, mode)
    return Scores(
        classes=tuple(str(verdict) for verdict in verdicts),
        group=names_of(e.question.group for e in examined),
        num_correct=np.array([e.label.num_correct for e in examined], dtype=np.int64),
        num_graded=np.array([e.label.num_graded for e in examined], dtype=np.int64),
        ability=np.array([verdicts.index(labeling.expected_verdict(e.label.ability, mode)) for e in examined], dtype=np.int64),
        verdict=np.array([verdicts.index(e.judgment.verdict) for e in examined], dtype=np.int64),
        probabilities=probabilities,
        owed=_rows([labeling.owed_shares(e.label, mode) for e in examined], mode),
        forecast=_forecast(probabilities, mode, calibration),
        mass=np.array([e.judgment.mass for e in examined], dtype=np.float64),
    )


def against_frozen(now: Sequence[Examined], frozen: Sequence[Examined], mode: LabelMode, seed: int) -> dict[str, Any]:
    """What full fine-tuning adds to a split's numbers: the same judgments scored against the untrained model's labels.

    `qa_change` is mean k/n `now` less mean k/n before, over the questions measured both times, with the 95 % interval of that
    paired difference (groups resampled). `undefined` gives the reason for each None.
    """
    first = {e.question.id: e.label.accuracy for e in frozen}
    both = [e for e in now if e.question.id in first]
    change = np.array([e.label.accuracy - first[e.question.id] for e in both])
    group = names_of(e.question.group for e in both)
    low, high = mean_interval(change, group, seed=seed) or (None, None)
    facts = summarize(scores_of(frozen, mode, calibration=None), 0, seed=seed)
    kept = ("judgment_accuracy", "auroc", "auroc_low", "auroc_high")
    values = {
        "qa_change": float(change.mean()) if len(change) else None,
        "qa_change_low": low,
        "qa_change_high": high,
        **{f"{name}_frozen": facts[name] for name in kept},
    }
    reasons = {f"{name}_frozen": facts["undefined"].get(name) for name in kept}
    reasons |= dict.fromkeys(
        values.keys() - reasons, "too few groups to resample" if len(both) else "no question was measured twice"
    )
    return {**values, "undefined": {name: reasons[name] for name, value in values.items() if value is None}}


def _forecast(probabilities: Floats, mode: LabelMode, calibration: Calibration | None) -> Floats | None:
    if calibration is not None:
        return calibration.forecast(probabilities)
    return probabilities[:, 0] if mode is LabelMode.BINARY else None


def _probabilities(examined: Sequence[Examined], mode: LabelMode) -> Floats:
    return _rows([e.judgment.probabilities for e in examined], mode)


def _rows(shares: Sequence[tuple[float, ...]], mode: LabelMode) -> Floats:
    """`shares` as an array `[questions, verdicts]`, also of no questions."""
    return np.array(shares, dtype=np.float64).reshape(len(shares), len(VERDICT_WORDS[mode]))


def examples_worth_reading(examined: Sequence[Examined], trials: pa.Table) -> dict[str, list[Any]]:
    """The questions that the judge was most sure of and the model got wrong, and the reverse."""
    texts = {
        row["id"]: [trial["text"] for trial in row["trials"]]
        for row in trials.select(["id", "trials"]).to_pylist()
        if row["trials"]
    }
    wrong = [e for e in examined if e.label.num_correct == 0]
    right = [e for e in examined if e.label.all_correct]
    chosen = {
        "confident and wrong": sorted(wrong, key=lambda e: -e.judgment.confidence)[:SHOWN],
        "doubtful and right": sorted(right, key=lambda e: e.judgment.confidence)[:SHOWN],
    }
    return {heading: [_example(e, texts.get(e.question.id, [])) for e in rows] for heading, rows in chosen.items()}


def _example(examined: Examined, trials: Sequence[str]) -> dict[str, Any]:
    return {
        "question": examined.question.text,
        "answers": list(examined.question.answers),
        "trials": list(trials),
        "confidence": examined.judgment.confidence,
        "num_correct": examined.label.num_correct,
        "num_graded": examined.label.num_graded,
    }
