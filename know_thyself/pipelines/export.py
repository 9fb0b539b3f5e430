"""The tables of an experiment as JSON Lines under the prototype's file names, for eyes and `jq`.

    responses.jsonl     val_responses.jsonl       the answers and abilities that training began from
    responses_epochN.jsonl  val_responses_epochN.jsonl  those of epoch N, where its training changed the answers
    tested_epochN.jsonl     val_tested_epochN.jsonl     the judgments of epoch N; 0 is the untrained model

Files without `val_` hold all that is not validation: `split` says train, dev or calibration. Every question has its row in
every file; what could not be graded or read is null.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from know_thyself import labeling, prompts
from know_thyself.errors import StoreError
from know_thyself.experiment import Experiment, StageFolder, write_whole
from know_thyself.experiment.epochs import EpochIndex, EpochStages, committed_stage, read_index
from know_thyself.experiment.place import pull
from know_thyself.labeling import AbilityRule
from know_thyself.types import LabelMode, Question, Split

Rows = Mapping[str, dict[str, Any]]
"""The rows of a stage's table by their question's id."""
PREFIXES = {"": False, "val_": True}
"""Before the name of a file: whether it holds validation questions or all others."""
EXPORTED = re.compile(r"(val_)?(responses|tested)(_epoch\d+)?\.jsonl")


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochTables:
    """The committed tables of one epoch: the questions, and what each stage says of them; `sampled` is None without trials."""

    questions: Sequence[Question]
    sampled: Rows | None
    graded: Rows
    judged: Rows


RowMaker = Callable[[EpochTables], list[dict[str, Any]]]


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

    Raises `StoreError`, before any file is written, when the experiment's index or a stage is missing or damaged, or `out`
    holds files of an export with other epochs.
    """
    index = read_index(experiment)
    plans = _plans(index)
    _refuse_others(out, {prefix + name for plan in plans for name in plan for prefix in PREFIXES})
    epochs = [_folders(experiment, stages) for stages in index.epochs]
    written = []
    for plan, folders in zip(plans, epochs, strict=True):
        tables = _tables(folders)
        for name, rows_of in plan.items():
            rows = rows_of(tables)
            for prefix, is_validation in PREFIXES.items():
                kept = [row for row in rows if (row["split"] == Split.VALIDATION) is is_validation]
                write_whole(out / f"{prefix}{name}", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept))
                written.append(out / f"{prefix}{name}")
    return written


def _plans(index: EpochIndex) -> list[dict[str, RowMaker]]:
    """Per epoch the files that it has, each with what makes its rows."""
    plans, graded = [], None
    for stages in index.epochs:
        plan: dict[str, RowMaker] = {}
        if stages.graded != graded:
            suffix = "" if graded is None else f"_epoch{stages.epoch}"
            plan[f"responses{suffix}.jsonl"] = partial(response_rows, rule=index.rule)
        plan[f"tested_epoch{stages.epoch}.jsonl"] = partial(tested_rows, rule=index.rule, mode=index.mode)
        plans.append(plan)
        graded = stages.graded
    return plans


def _refuse_others(out: Path, names: Set[str]) -> None:
    """Raise `StoreError` where `out` holds exported files that are not among `names`: they would pass for ours."""
    there = [path.name for path in pull(out, "*.jsonl").glob("*.jsonl")]
    others = sorted(name for name in there if EXPORTED.fullmatch(name) and name not in names)
    if others:
        raise StoreError(f"{out} holds {', '.join(others)} of another export: move them away, or give another --out")


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


def _tables(folders: _Folders) -> EpochTables:
    return EpochTables(
        questions=[Question.from_row(row) for row in folders.questions.read().to_pylist()],
        sampled=_by_id(folders.sampled) if folders.sampled is not None else None,
        graded=_by_id(folders.graded),
        judged=_by_id(folders.judged),
    )


def _by_id(folder: StageFolder) -> Rows:
    return {row["id"]: row for row in folder.read().to_pylist()}
