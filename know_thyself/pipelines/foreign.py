"""Our evaluation for judges that are not ours: two files in, the same numbers and the same page out; no engine, no Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from know_thyself.config import RunConfig
from know_thyself.data.scores import Label, read_labels, read_scores
from know_thyself.errors import DataError, StoreError
from know_thyself.evaluation import findings
from know_thyself.evaluation.calibration import Calibration, choose_calibration
from know_thyself.evaluation.metrics.scores import Scores, names_of
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.report import Report, write_report
from know_thyself.experiment import versions, write_experiment, write_whole
from know_thyself.experiment.place import address, pull
from know_thyself.labeling import AbilityRule
from know_thyself.pipelines.inputs import rule_of
from know_thyself.pipelines.table import evaluation_table
from know_thyself.types import Ability, Split

EVALUATION = "evaluation.json"


def evaluate_files(config: RunConfig, scores: Path, labels: Path, console: Console) -> Path:
    """Evaluate the file of `scores` against that of `labels` into the experiment of `config`; the file with the numbers.

    The event is that of the label rule for two verdicts. Without questions of the split calibration, the confidence stands as
    the forecast and nothing is promised. Raises `DataError` for files that cannot be read or share no question.
    """
    told, known = read_scores(scores), read_labels(labels)
    shared = {split: [name for name, label in known.items() if label.split is split and name in told] for split in Split}
    if not shared[Split.VALIDATION]:
        raise DataError(f"{scores} and {labels} share no question of the split validation: give both the same question_id")
    rule = rule_of(config)
    learned, measured = (_scores(shared[split], told, known, rule) for split in (Split.CALIBRATION, Split.VALIDATION))
    fitted = choose_calibration(learned.probabilities, learned.accuracy, learned.group, seed=config.seed)
    calibration = None if fitted is None else fitted.calibration
    measured = _scores(shared[Split.VALIDATION], told, known, rule, calibration)
    dropped = {
        "scored, but not labelled": len(told.keys() - known.keys()),
        "labelled, but not scored": len(known.keys() - told.keys()),
    }
    content = {
        "schema": 1,
        "model": scores.name,
        "dataset": labels.name,
        "label_mode": "binary",
        "tuning": "foreign",
        "seed": config.seed,
        "best_epoch": 0,
        "epochs": [{"epoch": 0, "validation": summarize(measured, dropped["labelled, but not scored"], seed=config.seed)}],
        **findings.beside_epochs(fitted, learned, measured, config.seed),
    }
    return _write(config, content, measured, dropped, console)


def _scores(
    names: Sequence[str],
    told: Mapping[str, float],
    known: Mapping[str, Label],
    rule: AbilityRule,
    calibration: Calibration | None = None,
) -> Scores:
    """The columns of the questions `names`, as of a judge of two verdicts."""
    sure = np.array([told[name] for name in names], dtype=np.float64)
    logs = [known[name].log for name in names]
    probabilities = np.stack([sure, 1 - sure], axis=1)
    accuracy = np.array([log.num_correct / log.num_trials for log in logs], dtype=np.float64)
    cannot = [rule.ability(log.num_correct, log.num_trials) is Ability.CANNOT for log in logs]
    return Scores(
        classes=("can", "cannot"),
        group=names_of(known[name].group for name in names),
        num_correct=np.array([log.num_correct for log in logs], dtype=np.int64),
        num_graded=np.array([log.num_trials for log in logs], dtype=np.int64),
        ability=np.array(cannot, dtype=np.int64),
        verdict=np.where(sure > 0.5, 0, 1),
        probabilities=probabilities,
        owed=np.stack([accuracy, 1 - accuracy], axis=1),
        forecast=sure if calibration is None else calibration.forecast(probabilities),
        mass=None,
    )


def _write(
    config: RunConfig, content: Mapping[str, object], measured: Scores, dropped: Mapping[str, int], console: Console
) -> Path:
    """Write numbers and report into the experiment, and show the table."""
    with write_experiment(config, console.print) as experiment:
        if (pull(experiment.path, experiment.epochs.name) / experiment.epochs.name).exists():
            raise StoreError(
                f"{address(experiment.path)} is an experiment of ours, whose report would be lost: give another --name"
            )
        path = experiment.path / EVALUATION
        write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
        report = Report(
            name=experiment.name,
            summary=content,
            scores={0: {str(Split.VALIDATION): measured}},
            best_epoch=0,
            config=config.model_dump(mode="json"),
            versions=versions(),
            dropped={reason: count for reason, count in dropped.items() if count},
            examples={},
        )
        write_report(experiment.report, report)
        facts = content["epochs"][0]["validation"]  # type: ignore[index]  # made above
        console.print(evaluation_table({str(Split.VALIDATION): facts}))
        console.print(f"report: {address(experiment.report)}")
    return path
