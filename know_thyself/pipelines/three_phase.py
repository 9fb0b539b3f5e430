"""The three-phase study: train a judge, teach the model, train a judge of what it has become.

1. Judgment: the epochs of judge v1 on the model as it is. 2. Knowledge: the model is taught what it does not know of the taught
pools. 3. Rejudgment: what it knows now is measured anew, judge v1, now stale, judges it, and judge v2 is trained.

What the answerer knows is measured by it alone: the labels of phases 1 and 3 are those of the untuned and of the taught model,
also with full fine-tuning, whose judges answer in a way of their own.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself.config import RunConfig
from know_thyself.evaluation.calibration import Calibration
from know_thyself.evaluation.evidence import Examined, cross_fit, scores_of
from know_thyself.evaluation.findings import beside_epochs
from know_thyself.evaluation.ledger import changes, ledger_examples
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.report.study import StudyReport, write_study
from know_thyself.evaluation.study import (
    V1_AFTER,
    V1_BEFORE,
    V2_AFTER,
    examined_by_all,
    judge_facts,
    ledger_by_pool,
    paired_facts,
)
from know_thyself.experiment import write_whole
from know_thyself.experiment.place import address
from know_thyself.pipelines.bench import Bench, Result, open_bench
from know_thyself.pipelines.results import header, show_epochs, write_best, write_results
from know_thyself.pipelines.rounds import EpochResult, best_of, judge_epochs
from know_thyself.pipelines.study import StudyInputs
from know_thyself.pipelines.study_table import study_tables
from know_thyself.pipelines.teaching import Knowledge, plan_lessons, teach
from know_thyself.progress import Spoken
from know_thyself.stages.training import ADAPTER
from know_thyself.types import LabelMode, ModelRef, Pool, Split

PHASE_1 = "phase1_judgment"
"""The folder with the results of phase 1; those of phase 3 stand where the results of any experiment do."""
REHEARSED = "rehearsed"
"""The known facts that were rehearsed, some of them of the taught pools."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One judge at work on one model: its judgments, the grades they are held against, and the epoch it is of.

    `calibration` is by the answers of the model that it was trained to judge.
    """

    judge: EpochResult
    graded: Result
    judged: Result
    calibration: Calibration | None


def run(config: RunConfig, study: StudyInputs, console: Spoken) -> Path:
    """Run the phases of `config` on `study`, from where an earlier run of it stopped; the experiment's folder."""
    with open_bench(config, study.inputs, console) as bench:
        _run(bench, study)
        return bench.experiment.path


def _run(bench: Bench, study: StudyInputs) -> None:
    bench.check_workers()
    last = bench.config.phase or 3
    before, questions, epochs = _first_phase(bench)
    if last == 1:
        return
    taught = _second_phase(bench, study, epochs)
    if last == 2:
        return
    after = _on(bench, taught.model, 3)
    _third_phase(before, after, study, questions, epochs, taught)


def _on(bench: Bench, base: ModelRef, phase: int, part: str = "") -> Bench:
    """`bench` in `phase`, with `base` as the model that answers and is judged, and `part` as the folder of its results."""
    return dataclasses.replace(
        bench,
        phase=phase,
        inputs=dataclasses.replace(bench.inputs, base=base),
        experiment=dataclasses.replace(bench.experiment, part=part),
    )


def _first_phase(bench: Bench) -> tuple[Bench, Result, list[EpochResult]]:
    before = _on(bench, bench.base, 1, PHASE_1)
    _announce(before, "judgment v1")
    questions = before.put_questions()
    return before, questions, _judge(before, questions)


def _judge(bench: Bench, questions: Result) -> list[EpochResult]:
    """The epochs of a judge of the bench's base; their results and the best of them are written."""
    epochs = judge_epochs(bench, questions, lambda so_far: show_epochs(bench, questions, so_far))
    best = best_of(epochs)
    found = beside_epochs(best.fitted, best.scores[Split.CALIBRATION], best.scores[Split.VALIDATION], bench.config.seed)
    write_results(bench, questions, epochs, found)
    write_best(bench, best, found)
    return epochs


def _second_phase(bench: Bench, study: StudyInputs, epochs: Sequence[EpochResult]) -> Knowledge:
    teaching = _on(bench, bench.base, 2)
    _announce(teaching, "knowledge")
    taught = teach(teaching, plan_lessons(teaching, study.pools, epochs[0].collected), study.knowledge)
    bench.console.print(f"taught model, of round {taught.best.number}: {address(taught.model.name)}")
    return taught


def _third_phase(
    before: Bench,
    after: Bench,
    study: StudyInputs,
    questions: Result,
    first: Sequence[EpochResult],
    taught: Knowledge,
) -> None:
    _announce(after, "judgment v2")
    second = _judge(after, questions)
    v1, v2 = best_of(first), best_of(second)
    knew, knows = first[0].collected.graded, second[0].collected.graded
    stale = _stale(after, questions, v1, second[0])
    by_v1, by_v2 = _calibration(before, knew, v1.judged), _calibration(after, knows, v2.judged)
    judged = {
        V1_BEFORE: Judged(judge=v1, graded=knew, judged=v1.judged, calibration=by_v1),
        V1_AFTER: Judged(judge=v1, graded=knows, judged=stale, calibration=by_v1),
        V2_AFTER: Judged(judge=v2, graded=knows, judged=v2.judged, calibration=by_v2),
    }
    parts = {**{str(pool): found for pool, found in study.pools.of.items()}, REHEARSED: taught.lessons.rehearsed}
    examined = {
        name: {part: list(records) for part, records in after.collect_parts(parts, j.graded, j.judged).items()}
        for name, j in judged.items()
    }
    _write(before, after, study, taught, judged, examined)


def _calibration(bench: Bench, graded: Result, judged: Result) -> Calibration | None:
    """The map from `judged` to the answers that `graded` measured, fitted on the calibration questions.

    That of the epoch is another with full fine-tuning, as it is by the answers of the judge itself.
    """
    part = {Split.CALIBRATION: bench.questions.of(Split.CALIBRATION)}
    fitted = cross_fit(bench.collect_parts(part, graded, judged)[Split.CALIBRATION], bench.config.label_mode)
    return None if fitted is None else fitted.calibration


def _stale(after: Bench, questions: Result, v1: EpochResult, untrained: EpochResult) -> Result:
    """Judge v1 on the taught model: its adapter on the new base; one that was never trained is the new base itself.

    A judge with weights of its own sees nothing of what was taught: it says what it said.
    """
    if v1.trained is None:
        return untrained.judged
    if after.config.tuning == "full":
        return v1.judged
    adapted = after.adapted(v1.trained.folder.path / ADAPTER)
    return after.examine("judge v1, now stale, judging", questions, answerer=None, judge=adapted)


def _announce(bench: Bench, name: str) -> None:
    bench.console.print(f"phase {bench.phase}: {name}", style="bold", highlight=False)


def _write(
    before: Bench,
    after: Bench,
    study: StudyInputs,
    taught: Knowledge,
    judged: Mapping[str, Judged],
    examined: Mapping[str, Mapping[str, Sequence[Examined]]],
) -> None:
    """Write study.json and the page of the study, and print its tables."""
    config, seed = after.config, after.config.seed
    scores, paired = (_scores(found, judged, config.label_mode) for found in (examined, examined_by_all(examined)))
    sizes = {pool: len(found) for pool, found in study.pools.of.items()}
    content = {
        **header(config),
        "phases": _phases(before, after, taught, judged),
        "teaching": taught.facts(),
        "judges": judge_facts(scores, sizes, seed),
        "paired": paired_facts(paired, seed),
        "ledger": ledger_by_pool(examined[V1_BEFORE], examined[V2_AFTER], seed),
    }
    write_whole(after.experiment.study, json.dumps(content, indent=2, allow_nan=False) + "\n")
    moved = changes(examined[V1_BEFORE][Pool.TAUGHT_HELD_OUT], examined[V2_AFTER][Pool.TAUGHT_HELD_OUT])
    seen = changes(examined[V1_BEFORE][Pool.NEVER_SEEN], examined[V2_AFTER][Pool.NEVER_SEEN])
    report = StudyReport(
        name=after.experiment.name,
        study=content,
        scores=scores,
        examples={"taught": ledger_examples(moved), "never taught": ledger_examples(seen)} if config.examples else {},
    )
    write_study(after.experiment.study_page, report)
    for table in study_tables(content):
        after.console.print(table)
    after.console.print(f"study: {address(after.experiment.study_page)}")


def _scores(
    examined: Mapping[str, Mapping[str, Sequence[Examined]]], judged: Mapping[str, Judged], mode: LabelMode
) -> dict[str, dict[Pool, Scores]]:
    return {
        name: {pool: scores_of(by_part[pool], mode, judged[name].calibration) for pool in Pool}
        for name, by_part in examined.items()
    }


def _phases(before: Bench, after: Bench, taught: Knowledge, judged: Mapping[str, Judged]) -> list[dict[str, Any]]:
    """Which model and which judge came of each phase, by folders below the experiment."""

    def inside(path: str | Path) -> str:
        whole = Path(path)
        root = after.experiment.path
        return str(whole.relative_to(root)) if whole.is_relative_to(root) else address(whole)

    return [
        {
            "phase": 1,
            "name": "judgment",
            "model": inside(before.base.name),
            "judge": inside(before.experiment.judge),
            "epoch": judged[V1_BEFORE].judge.epoch,
        },
        {"phase": 2, "name": "knowledge", "model": inside(taught.model.name), "round": taught.best.number},
        {
            "phase": 3,
            "name": "rejudgment",
            "model": inside(after.base.name),
            "judge": inside(after.experiment.judge),
            "epoch": judged[V2_AFTER].judge.epoch,
        },
    ]
