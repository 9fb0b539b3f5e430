"""The tables of an experiment as JSON Lines under the prototype's file names, for eyes and `jq`.

    responses.jsonl     val_responses.jsonl       the answers and abilities that training began from
    responses_epochN.jsonl  val_responses_epochN.jsonl  those of epoch N, where its training changed the answers
    tested_epochN.jsonl     val_tested_epochN.jsonl     the judgments of epoch N; 0 is the untrained model

Files without `val_` hold all that is not validation: `split` says train, dev or calibration. Every question has its row in
every file; what could not be graded or read is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself import labeling, prompts
from know_thyself.experiment import Experiment, StageFolder, write_whole
from know_thyself.experiment.epochs import EpochIndex, EpochStages, committed_stage, read_index
from know_thyself.labeling import AbilityRule
from know_thyself.types import LabelMode, Question, Split

Rows = Mapping[str, dict[str, Any]]
"""The rows of a stage's table by their question's id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTables:
    """The committed tables of one epoch: the questions, and what each stage says of them; `sampled` is None without trials."""

    questions: Sequence[Question]
    sampled: Rows | None
    graded: Rows
    judged: Rows


def response_rows(tables: EpochTables, rule: AbilityRule) -> list[dict[str, Any]]:
    """Per question its accepted answers, the model's replies and the ability that they show."""
    return [_response(question, tables, rule) for question in tables.questions]


def _response(question: Question, tables: EpochTables, rule: AbilityRule) -> dict[str, Any]:
    trials = tables.sampled[question.id]["trials"] if tables.sampled is not None else None
    grades = tables.graded[question.id]["correct"]
    label = labeling.label(question.id, grades, rule)
    return {
        "id": question.id,
        "split": question.split,
        "question": question.text,
        "answers": list(question.answers),
        "responses": None if trials is None else [trial["text"] for trial in trials],
        "num_correct": label.num_correct if label else None,
        "num_trials": len(grades),
        "ability": str(label.ability) if label else None,
    }


def tested_rows(tables: EpochTables, rule: AbilityRule, mode: LabelMode) -> list[dict[str, Any]]:
    """Per question its ability, the judge's verdict and confidence, and whether the verdict is the one owed to the ability."""
    return [_tested(question, tables, rule, mode) for question in tables.questions]


def _tested(question: Question, tables: EpochTables, rule: AbilityRule, mode: LabelMode) -> dict[str, Any]:
    label = labeling.label(question.id, tables.graded[question.id]["correct"], rule)
    probabilities = tables.judged[question.id]["probabilities"]
    verdict = None if probabilities is None else prompts.read_verdict(probabilities, mode)
    return {
        "id": question.id,
        "split": question.split,
        "question": question.text,
        "ability": str(label.ability) if label else None,
        "verdict": str(verdict) if verdict else None,
        "confidence": None if probabilities is None else labeling.confidence(probabilities, mode),
        "correct": labeling.expected_verdict(label.ability, mode) is verdict if label and verdict else None,
    }


def export_jsonl(experiment: Experiment, out: Path) -> list[Path]:
    """Write the files of all epochs of `experiment` into `out`, replacing those there; their paths.

    Raises `StoreError` when the experiment's index or a stage is missing or damaged, before any file is written.
    """
    index = read_index(experiment)
    epochs = [_folders(experiment, stages) for stages in index.epochs]
    written = []
    for name, rows in _files(index, epochs):
        write_whole(out / name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
        written.append(out / name)
    return written


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folders:
    """The stage folders of one epoch, each whole."""

    questions: StageFolder
    sampled: StageFolder | None
    graded: StageFolder
    judged: StageFolder


def _folders(experiment: Experiment, stages: EpochStages) -> _Folders:
    return _Folders(
        questions=committed_stage(experiment, stages.questions),
        sampled=committed_stage(experiment, stages.sampled) if stages.sampled is not None else None,
        graded=committed_stage(experiment, stages.graded),
        judged=committed_stage(experiment, stages.judged),
    )


def _files(index: EpochIndex, epochs: Sequence[_Folders]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Name and rows of each file, one epoch in memory at a time."""
    graded = None
    for stages, folders in zip(index.epochs, epochs, strict=True):
        tables = _tables(folders)
        if stages.graded != graded:
            suffix = "" if graded is None else f"_epoch{stages.epoch}"
            yield from _by_split(f"responses{suffix}.jsonl", response_rows(tables, index.rule))
            graded = stages.graded
        yield from _by_split(f"tested_epoch{stages.epoch}.jsonl", tested_rows(tables, index.rule, index.mode))


def _by_split(name: str, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield name, [row for row in rows if row["split"] != Split.VALIDATION]
    yield f"val_{name}", [row for row in rows if row["split"] == Split.VALIDATION]


def _tables(folders: _Folders) -> EpochTables:
    return EpochTables(
        questions=[Question.from_row(row) for row in folders.questions.read().to_pylist()],
        sampled=_by_id(folders.sampled) if folders.sampled is not None else None,
        graded=_by_id(folders.graded),
        judged=_by_id(folders.judged),
    )


def _by_id(folder: StageFolder) -> Rows:
    return {row["id"]: row for row in folder.read().to_pylist()}
