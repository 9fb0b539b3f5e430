"""The chosen judge of an experiment, read from the tables that the experiment holds; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from know_thyself.errors import StoreError
from know_thyself.evaluation.calibration import Calibration
from know_thyself.evaluation.evidence import Examined, Records, fit_calibration, scores_of
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.experiment import Experiment
from know_thyself.experiment.epochs import committed_stage, read_index
from know_thyself.types import LabelMode, Question, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenJudge:
    """The judge of the best epoch: the questions it is calibrated on, those it is measured on, and its calibration.

    `rule` says what its labels and its event are.
    """

    name: str
    rule: str
    mode: LabelMode
    learned: Sequence[Examined]
    measured: Sequence[Examined]
    calibration: Calibration | None

    def scores(self, examined: Sequence[Examined]) -> Scores:
        """The columns of `examined`, forecasts by its calibration."""
        return scores_of(examined, self.mode, self.calibration)


def read_chosen(experiment: Experiment) -> ChosenJudge:
    """The judge of the best epoch of `experiment`. Raises `StoreError` when its summary or a table is missing or damaged."""
    index = read_index(experiment)
    try:
        best = json.loads(experiment.summary.read_text())["best_epoch"]
        stages = next(stages for stages in index.epochs if stages.epoch == best)
    except (OSError, ValueError, LookupError, StopIteration) as error:
        raise StoreError(f"experiment {experiment.name} has no whole summary: run its command again") from error
    tables = [committed_stage(experiment, name).read() for name in (stages.questions, stages.graded, stages.judged)]
    questions = [Question.from_row(row) for row in tables[0].to_pylist()]
    learned, measured = (
        list(Records([q for q in questions if q.split == split], tables[1], tables[2], index.rule, index.mode))
        for split in (Split.CALIBRATION, Split.VALIDATION)
    )
    return ChosenJudge(
        name=experiment.name,
        rule=f"{index.rule.event(index.mode)} ({index.rule}, {index.mode})",
        mode=index.mode,
        learned=learned,
        measured=measured,
        calibration=fit_calibration(learned, index.mode),
    )
