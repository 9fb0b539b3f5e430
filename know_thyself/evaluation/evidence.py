"""Bring questions, grades and judgments together: what an epoch is evaluated on and trained from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from know_thyself import labeling, prompts
from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.metrics import Scores, summarize
from know_thyself.labeling import AbilityRule
from know_thyself.types import AbilityLabel, Judgment, LabelMode, Question, Verdict

SHOWN = 8
"""Examples of each kind that a report shows."""


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

    A question drops out when one of its trials could not be graded, or its judge prompt was too long to read.
    """
    grades = dict(zip(graded["id"].to_pylist(), graded["correct"].to_pylist(), strict=True))
    reads = {
        row["id"]: row
        for row in examined.select(["id", "probabilities", "mass"]).to_pylist()
        if row["probabilities"] is not None
    }
    found = []
    for question in questions:
        label = labeling.label(question.id, grades[question.id], rule)
        read = reads.get(question.id)
        if label is not None and read is not None:
            found.append(Examined(question=question, label=label, judgment=_judgment(read, mode)))
    return found


def _judgment(read: dict[str, Any], mode: LabelMode) -> Judgment:
    probabilities = tuple(read["probabilities"])
    return Judgment(
        question_id=read["id"],
        verdict=prompts.read_verdict(probabilities, mode),
        confidence=labeling.confidence(probabilities, mode),
        mass=read["mass"],
        probabilities=probabilities,
    )


def scores_of(examined: Sequence[Examined], mode: LabelMode) -> Scores:
    """`examined` as the columns that metrics are computed from."""
    return Scores(
        group=np.array([e.question.group for e in examined], dtype=np.str_),
        num_correct=np.array([e.label.num_correct for e in examined], dtype=np.int64),
        num_graded=np.array([e.label.num_graded for e in examined], dtype=np.int64),
        confidence=np.array([e.judgment.confidence for e in examined], dtype=np.float64),
        says_can=np.array([e.judgment.verdict is not Verdict.CANNOT for e in examined], dtype=np.bool_),
        is_can=np.array(
            [labeling.expected_verdict(e.label.ability, mode) is not Verdict.CANNOT for e in examined], dtype=np.bool_
        ),
        mass=np.array([e.judgment.mass for e in examined], dtype=np.float64),
    )


def against_frozen(now: Sequence[Examined], frozen: Sequence[Examined], mode: LabelMode, seed: int) -> dict[str, Any]:
    """What full fine-tuning adds to a split's numbers: the same judgments scored against the untrained model's labels.

    `qa_change` is mean k/n `now` less mean k/n before, over the questions measured both times, with the 95 % interval of that
    paired difference (groups resampled); None where nothing was measured twice.
    """
    first = {e.question.id: e.label.accuracy for e in frozen}
    both = [e for e in now if e.question.id in first]
    change = np.array([e.label.accuracy - first[e.question.id] for e in both])
    group = np.array([e.question.group for e in both], dtype=np.str_)
    low, high = mean_interval(change, group, seed=seed) or (None, None)
    facts = summarize(scores_of(frozen, mode), 0, seed=seed)
    kept = ("judgment_accuracy", "auroc", "auroc_low", "auroc_high")
    return {
        "qa_change": float(change.mean()) if len(change) else None,
        "qa_change_low": low,
        "qa_change_high": high,
        **{f"{name}_frozen": facts[name] for name in kept},
    }


def examples_worth_reading(examined: Sequence[Examined], trials: pa.Table) -> dict[str, list[Any]]:
    """The questions that the judge was most sure of and the model got wrong, and the reverse."""
    texts = {
        row["id"]: [trial["text"] for trial in row["trials"]]
        for row in trials.select(["id", "trials"]).to_pylist()
        if row["trials"]
    }
    wrong = [e for e in examined if e.label.num_correct == 0]
    right = [e for e in examined if e.label.num_correct == e.label.num_graded]
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
