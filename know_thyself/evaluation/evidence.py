"""Bring questions, grades and judgments together: what an epoch is evaluated on and trained from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import nlargest, nsmallest
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from know_thyself import labeling, prompts
from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.calibration import Calibration, Fitted, choose_calibration
from know_thyself.evaluation.metrics.scores import Column, Floats, Scores, names_of
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.labeling import AbilityRule
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import AbilityLabel, Judgment, LabelMode, Question

Trials = Mapping[str, Sequence[Mapping[str, Any]]]
"""The trials of questions, as rows of their table, by the id of the question."""
SHOWN, BATCH = 8, 65_536
"""Examples of each kind that a report shows, and questions that are records at one time."""
UNREAD, UNGRADED = "too long to judge", "could not be graded"
"""Why a question has no part in the results."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """A question with its measured ability and the model's judgment of it."""

    question: Question
    label: AbilityLabel
    judgment: Judgment


@dataclass(frozen=True, slots=True)
class Records:
    """Those of `questions` that have both a label and a judgment, in their order, made into records whenever they are iterated.

    `graded` and `examined` are stage tables, so that a million questions take as much memory as those do. A question drops
    out when one of its trials could not be graded, or its judge prompt was too long to read: see `left_out`.
    """

    questions: Sequence[Question]
    graded: pa.Table
    examined: pa.Table
    rule: AbilityRule
    mode: LabelMode

    def __iter__(self) -> Iterator[Examined]:
        for question, label, read in self._rows():
            if label is not None and read is not None:
                yield Examined(question=question, label=label, judgment=_judgment(read, self.mode))

    def left_out(self) -> dict[str, int]:
        """How many of `questions` have no label or no judgment, by reason."""
        lost = Counter(UNREAD if read is None else UNGRADED for _, label, read in self._rows() if label is None or read is None)
        return {reason: lost[reason] for reason in (UNREAD, UNGRADED) if lost[reason]}

    def _rows(self) -> Iterator[tuple[Question, AbilityLabel | None, dict[str, Any] | None]]:
        """Each question with its label, if it has one, and the row of its judgment, if its verdict position could be read."""
        ids = pa.array([question.id for question in self.questions], pa.string())
        graded = self.graded.combine_chunks()
        examined = self.examined.select(["id", "probabilities", "mass"]).combine_chunks()
        grades_at, reads_at = (pc.index_in(ids, value_set=table["id"].cast(pa.string())) for table in (graded, examined))
        for start in range(0, len(ids), BATCH):
            some = slice(start, start + BATCH)
            grades = graded["correct"].take(grades_at[some]).to_pylist()
            reads = examined.take(reads_at[some]).to_pylist()
            for question, grade, read in zip(self.questions[some], grades, reads, strict=True):
                was_read = read["probabilities"] is not None
                yield question, labeling.label(question.id, grade, self.rule), read if was_read else None


def batches(examined: Iterable[Examined]) -> Iterator[list[Examined]]:
    """`examined`, so many at a time that they fit as Python objects however many there are."""
    iterator = iter(examined)
    while some := list(islice(iterator, BATCH)):
        yield some


def in_common(sides: Sequence[Sequence[Examined]]) -> list[list[Examined]]:
    """Of each of `sides` the questions that all of them hold, in the order of the first."""
    by_id = [{examined.question.id: examined for examined in side} for side in sides]
    shared = [name for name in by_id[0] if all(name in side for side in by_id)]
    return [[side[name] for name in shared] for side in by_id]


def _judgment(read: dict[str, Any], mode: LabelMode) -> Judgment:
    probabilities = tuple(read["probabilities"])
    return Judgment(
        question_id=read["id"],
        verdict=prompts.read_verdict(probabilities, mode),
        confidence=labeling.confidence(probabilities, mode),
        mass=read["mass"],
        probabilities=probabilities,
    )


def fit_calibration(examined: Iterable[Examined], mode: LabelMode) -> Calibration | None:
    """The map from what is said to p_correct, fitted on `examined`, the calibration questions; None without two groups."""
    fitted = cross_fit(examined, mode)
    return None if fitted is None else fitted.calibration


def cross_fit(examined: Iterable[Examined], mode: LabelMode) -> Fitted | None:
    """That map with what each candidate for it lost."""
    scores = scores_of(examined, mode, calibration=None)
    return choose_calibration(scores.probabilities, scores.accuracy, scores.group)


def scores_of(examined: Iterable[Examined], mode: LabelMode, calibration: Calibration | None) -> Scores:
    """`examined` as the columns that metrics are computed from, its forecasts by `calibration`.

    Without one, the confidence of two verdicts stands as the forecast that it was trained to be, and of three there is none.
    """
    parts = [_columns(some, mode) for some in batches(examined)] or [_columns([], mode)]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Scores(
        classes=tuple(str(verdict) for verdict in VERDICT_WORDS[mode]),
        forecast=_forecast(columns["probabilities"], mode, calibration),
        **columns,
    )


def _columns(examined: Sequence[Examined], mode: LabelMode) -> dict[str, Column]:
    """The columns of `Scores` but for the forecasts."""
    verdicts = list(VERDICT_WORDS[mode])
    return {
        "group": names_of(e.question.group for e in examined),
        "num_correct": np.array([e.label.num_correct for e in examined], dtype=np.int64),
        "num_graded": np.array([e.label.num_graded for e in examined], dtype=np.int64),
        "ability": np.array(
            [verdicts.index(labeling.expected_verdict(e.label.ability, mode)) for e in examined], dtype=np.int64
        ),
        "verdict": np.array([verdicts.index(e.judgment.verdict) for e in examined], dtype=np.int64),
        "probabilities": _shares([e.judgment.probabilities for e in examined], mode),
        "owed": _shares([labeling.owed_shares(e.label, mode) for e in examined], mode),
        "mass": np.array([e.judgment.mass for e in examined], dtype=np.float64),
    }


def against_frozen(now: Iterable[Examined], frozen: Iterable[Examined], mode: LabelMode, seed: int) -> dict[str, Any]:
    """What full fine-tuning adds to a split's numbers: the same judgments scored against the untrained model's labels.

    `qa_change` is mean k/n `now` less mean k/n before, over the questions measured both times, with the 95 % interval of that
    paired difference (groups resampled). `undefined` gives the reason for each None.
    """
    first = {e.question.id: e.label.accuracy for e in frozen}
    both = [(e.label.accuracy - first[e.question.id], e.question.group) for e in now if e.question.id in first]
    change = np.array([difference for difference, _ in both])
    group = names_of(name for _, name in both)
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


def _shares(shares: Sequence[tuple[float, ...]], mode: LabelMode) -> Floats:
    """`shares` as an array `[questions, verdicts]`, also of no questions."""
    return np.array(shares, dtype=np.float64).reshape(len(shares), len(VERDICT_WORDS[mode]))


def examples_worth_reading(examined: Iterable[Examined], trials_of: Callable[[Sequence[str]], Trials]) -> dict[str, list[Any]]:
    """The questions that the judge was most sure of and the model got wrong, and the reverse, with their trials."""
    chosen = {
        "confident and wrong": nlargest(SHOWN, (e for e in examined if e.label.num_correct == 0), key=_confidence),
        "doubtful and right": nsmallest(SHOWN, (e for e in examined if e.label.all_correct), key=_confidence),
    }
    trials = trials_of([e.question.id for rows in chosen.values() for e in rows])
    return {
        heading: [_example(e, [trial["text"] for trial in trials.get(e.question.id, ())]) for e in rows]
        for heading, rows in chosen.items()
    }


def _confidence(examined: Examined) -> float:
    return examined.judgment.confidence


def _example(examined: Examined, trials: Sequence[str]) -> dict[str, Any]:
    return {
        "question": examined.question.text,
        "answers": list(examined.question.answers),
        "trials": list(trials),
        "confidence": examined.judgment.confidence,
        "num_correct": examined.label.num_correct,
        "num_graded": examined.label.num_graded,
    }
