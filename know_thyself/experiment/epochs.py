"""Which committed stages belong to which epoch: the index `epochs.json` of an experiment, for whoever reads it afterwards.

Stage folders are named by content alone. The index is written after every epoch and describes the last run; it vouches for
nothing, each stage's own marker does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from know_thyself.config import RunConfig
from know_thyself.errors import StoreError
from know_thyself.experiment import MARKER, Experiment
from know_thyself.experiment.place import address, pull
from know_thyself.experiment.stage import StageFolder
from know_thyself.experiment.writing import write_whole
from know_thyself.labeling import AbilityRule
from know_thyself.types import LabelMode, Record, StageDone

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochStages(Record):
    """The folder names of one epoch's stages.

    `sampled` holds the trials and `graded` the grades that the epoch's labels come from: those of epoch 0 as long as the
    answerer is frozen; `sampled` is None where the counts come from logs. `judged` holds the judgments, `trained` the
    checkpoint they were made with, None in epoch 0.
    """

    epoch: int
    questions: str
    sampled: str | None
    graded: str
    judged: str
    trained: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochIndex:
    """The epochs of an experiment's last run, and the rule and mode that its labels and verdicts were read with."""

    rule: AbilityRule
    mode: LabelMode
    epochs: tuple[EpochStages, ...]


def write_index(experiment: Experiment, config: RunConfig, epochs: Sequence[EpochStages]) -> None:
    """Write the index of `epochs`, in their order."""
    content = {
        "schema": SCHEMA,
        "label_mode": str(config.label_mode),
        "can_at": config.label.can_at,
        "uncertain_at": config.label.uncertain_at,
        "epochs": [stages.to_row() for stages in epochs],
    }
    write_whole(experiment.epochs, json.dumps(content, indent=2) + "\n")


def read_index(experiment: Experiment) -> EpochIndex:
    """The index of `experiment`. Raises `StoreError` when there is none yet or it cannot be read."""
    again = f"run the command of {experiment.name} again, it goes on where it stopped and writes it"
    try:
        content = json.loads(experiment.epochs.read_bytes())
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        return EpochIndex(
            rule=AbilityRule(can_at=content["can_at"], uncertain_at=content["uncertain_at"]),
            mode=LabelMode(content["label_mode"]),
            epochs=tuple(EpochStages.from_row(row) for row in content["epochs"]),
        )
    except FileNotFoundError as error:
        raise StoreError(f"experiment {experiment.name} has no {experiment.epochs.name} yet: {again}") from error
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(f"{experiment.epochs} cannot be read ({error}): {again}") from error


def committed_stage(experiment: Experiment, name: str) -> StageFolder:
    """The stage folder `name`, whole and as it was committed. Raises `StoreError` when it is not."""
    path = pull(experiment.path / "stages" / name, MARKER)
    try:
        done = StageDone.from_row(json.loads((path / MARKER).read_bytes()))
    except FileNotFoundError as error:
        raise StoreError(
            f"{address(path)} is not there or was never finished: run the command of {experiment.name} again, it makes what is "
            "missing"
        ) from error
    except (ValueError, LookupError, TypeError) as error:
        raise StoreError(
            f"{address(path / MARKER)} is not as it was committed: move {address(path)} away and run the command of "
            f"{experiment.name} again"
        ) from error
    folder = StageFolder(done.stage, path, done.config_digest, done.inputs_digest, experiment.attempt)
    folder.done()
    return folder
