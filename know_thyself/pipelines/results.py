"""What a judge's epochs leave in the experiment: the summary table, index, summary, report, and the chosen judge."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from know_thyself import prompts
from know_thyself.config import RunConfig
from know_thyself.cost import used
from know_thyself.evaluation.drift import Reference
from know_thyself.evaluation.evidence import examples_worth_reading
from know_thyself.evaluation.reliability import reliability_of
from know_thyself.evaluation.report import Report, write_report
from know_thyself.experiment import versions, write_whole
from know_thyself.experiment.epochs import EpochStages, write_index
from know_thyself.experiment.place import address
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.pipelines.inputs import rule_of
from know_thyself.pipelines.publishing import write_card
from know_thyself.pipelines.rounds import EpochResult, best_of
from know_thyself.pipelines.table import summary_table
from know_thyself.types import Split


def header(config: RunConfig) -> dict[str, Any]:
    """What summary.json and study.json begin with."""
    return {
        "schema": 1,
        "model": config.model,
        "dataset": config.dataset,
        "label_mode": str(config.label_mode),
        "tuning": config.tuning,
        "seed": config.seed,
    }


def summary(config: RunConfig, epochs: Sequence[EpochResult]) -> dict[str, Any]:
    """The content of summary.json."""
    shown = (Split.TRAIN, Split.DEV, Split.VALIDATION)
    return {
        **header(config),
        "best_epoch": best_of(epochs).epoch,
        "epochs": [{"epoch": result.epoch, **{str(split): result.facts[split] for split in shown}} for result in epochs],
    }


def show_epochs(bench: Bench, questions: Result, epochs: Sequence[EpochResult]) -> None:
    """Print the table so far, and write what is known: a run that is cut short leaves what it has found."""
    write_results(bench, questions, epochs, {})
    bench.console.print(summary_table(summary(bench.config, epochs)))


def write_results(bench: Bench, questions: Result, epochs: Sequence[EpochResult], found: Mapping[str, Any]) -> None:
    """Write index, summary and report; `found` is the evidence that stands beside the epochs."""
    best = best_of(epochs)
    dropped = bench.left_out(best.collected.graded, best.judged)
    content = {**summary(bench.config, epochs), "context_cut": bench.inputs.context_cut, "dropped": dropped, **found}
    write_index(bench.experiment, bench.config, [_stages(questions, result) for result in epochs])
    write_whole(bench.experiment.summary, json.dumps(content, indent=2, allow_nan=False) + "\n")
    answered = best.collected.sampled or best.judged  # without trials of its own, a report shows none
    write_report(
        bench.experiment.report,
        Report(
            name=bench.experiment.name,
            summary=content,
            scores={result.epoch: result.scores for result in epochs},
            best_epoch=best.epoch,
            config=bench.config.model_dump(mode="json"),
            versions=versions(),
            dropped=dropped,
            used=used(bench.experiment, bench.config.cost),
            examples=examples_worth_reading(best.examined(bench)[Split.VALIDATION], answered.trials)
            if bench.config.examples
            else {},
        ),
    )


def _stages(questions: Result, result: EpochResult) -> EpochStages:
    """The folders that `result` stands on."""
    return EpochStages(
        epoch=result.epoch,
        questions=questions.name,
        sampled=result.collected.sampled.name if result.collected.sampled else None,
        graded=result.collected.graded.name,
        judged=result.judged.name,
        trained=result.trained.name if result.trained else None,
    )


def write_best(bench: Bench, best: EpochResult, found: Mapping[str, Any]) -> None:
    """Write the judge of the `best` epoch with its card, with what may be promised of it, and say where it is."""
    config, base, learned = bench.config, bench.base, best.scores[Split.CALIBRATION]
    words = list(prompts.VERDICT_WORDS[config.label_mode].values())
    card = JudgeCard(
        experiment=bench.experiment.name,
        epoch=best.epoch,
        tuning=config.tuning,
        base=address(base.name),
        base_digest=base.digest,
        prompt_version=prompts.PROMPT_VERSION,
        prompt_style=config.prompt_style,
        label_mode=config.label_mode,
        verdict_words=tuple(words),
        verdict_tokens=bench.inputs.verdict_tokens,
        prefill=bench.inputs.prefill,
        encoding=bench.inputs.encoding,
        event=rule_of(config).event(config.label_mode),
        label_rule=str(rule_of(config)),
        decoding=config.sampling.model_dump(),
        max_model_len=config.engine.max_model_len,
        calibration=best.calibration,
        thresholds=tuple(found["thresholds"]),
        reference=Reference.of(learned.confidence, learned.accuracy),
        reliability=reliability_of(best.scores[Split.VALIDATION], best.calibration),
    )
    write_judge(bench.experiment.judge, card, best.trained.folder.path if best.trained else None)
    write_card(bench, {**summary(config, [best]), **found})
    bench.console.print(f"judge of epoch {best.epoch}: {address(bench.experiment.judge)}")
