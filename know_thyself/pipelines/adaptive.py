"""The adaptive pipeline: measure what the model can answer, then teach it, epoch by epoch, to judge that beforehand.

Step 0 samples and judges all splits with the untrained model. Each epoch trains on the last epoch's judgments, then judges all
splits again. With LoRA the answerer is frozen and its labels are measured once; full fine-tuning changes the answers too, so
every epoch collects them again, and a judge is scored against the labels of the answerer it has become, with what it lost or
gained in answering, and against the first labels, beside it. The epoch with the lowest dev log loss is the judge; the untrained
model counts as epoch 0. Validation is looked at, never chosen on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from know_thyself import prompts
from know_thyself.config import RunConfig
from know_thyself.errors import ConfigError
from know_thyself.evaluation.calibration import Calibration, Fitted
from know_thyself.evaluation.evidence import Examined, against_frozen, cross_fit, examples_worth_reading, scores_of
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.report import Report, write_report
from know_thyself.evaluation.selection import select_examples
from know_thyself.experiment import versions, write_whole
from know_thyself.experiment.epochs import EpochStages, write_index
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.labeling import TargetRule
from know_thyself.pipelines.bench import Bench, Result, open_bench
from know_thyself.pipelines.evidence import Chosen, gather
from know_thyself.pipelines.inputs import Inputs, rule_of
from know_thyself.pipelines.publishing import push_judge, write_card
from know_thyself.pipelines.table import summary_table
from know_thyself.types import JudgmentExample, ModelRef, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The answers of one answerer: the examination that sampled them, and their grades; logs hold counts alone."""

    sampled: Result | None
    graded: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: what was trained (nothing in epoch 0), the answers it is scored against, the judgments, and their worth.

    `fitted` is the calibration by this epoch's calibration questions, None where there are too few.
    """

    epoch: int
    trained: Result | None
    collected: Collected
    judged: Result
    examined: Mapping[Split, Sequence[Examined]]
    fitted: Fitted | None
    scores: Mapping[str, Scores]
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def dev_loss(self) -> float:
        """Loss of the verdict words on dev (of two verdicts the log loss), infinite where undefined: it chooses the epoch."""
        loss = self.facts[Split.DEV]["verdict_loss"]
        return float("inf") if loss is None else float(loss)


def best_of(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the lowest dev log loss; the earlier of equals."""
    return min(epochs, key=lambda result: (result.dev_loss, result.epoch))


def run(config: RunConfig, inputs: Inputs, console: Console) -> Path:
    """Run the adaptive pipeline of `config` on `inputs`, from where an earlier run of it stopped; the experiment's folder."""
    with open_bench(config, inputs, console) as bench:
        return _run(bench)


def _run(bench: Bench) -> Path:
    bench.check_workers()
    questions = bench.put_questions()
    epochs = [untrained(bench, questions)]
    _show(bench, questions, epochs)
    while len(epochs) <= bench.config.train.epochs and not _stalled(epochs, bench.config.train.patience):
        if not lessons(bench, epochs):
            bench.console.print("every training question is judged right: nothing left to learn")
            break
        epochs.append(next_epoch(bench, questions, epochs))
        _show(bench, questions, epochs)
    found = gather(bench, _chosen(epochs))
    _write(bench, questions, epochs, found)
    if "audit" in found:
        bench.console.print(found["audit"]["verdict"], highlight=False)
    _keep(bench, best_of(epochs), found)
    return bench.experiment.path


def _targets(config: RunConfig, first: EpochResult) -> TargetRule:
    """What examples teach in all epochs, by the counts of the training questions at the start."""
    labels = [examined.label for examined in first.examined[Split.TRAIN]]
    return TargetRule.fit(labels, config.label_mode, config.train.target, rule_of(config))


def _stalled(epochs: Sequence[EpochResult], patience: int) -> bool:
    return len(epochs) - 1 - best_of(epochs).epoch >= patience


def examine_first(bench: Bench, questions: Result) -> Result:
    """The untrained model's judgments and, unless logs hold the counts, its answers, in one pass."""
    logged = bool(bench.questions.logs)
    title = "epoch 0: a judgment each" if logged else "epoch 0: five answers and a judgment each"
    return bench.examine(title, questions, answerer=None if logged else bench.base, judge=bench.base, epoch=0)


def untrained(bench: Bench, questions: Result) -> EpochResult:
    """Epoch 0: what the model can answer, and what it says of that before any training."""
    first = examine_first(bench, questions)
    if bench.questions.logs:
        return evaluate(bench, Collected(sampled=None, graded=bench.put_grades(questions)), judged=first)
    return evaluate(bench, Collected(sampled=first, graded=bench.grade(questions, first)), judged=first)


def lessons(bench: Bench, epochs: Sequence[EpochResult]) -> list[JudgmentExample]:
    """What the epoch after the last of `epochs` trains on; none when it judges all training questions right."""
    return select_examples(epochs[-1].examined[Split.TRAIN], bench.config.train.select, _targets(bench.config, epochs[0]))


def train_next(bench: Bench, questions: Result, epochs: Sequence[EpochResult]) -> Result:
    """Train an epoch more, going on from the last of `epochs`. Raises `ConfigError` when it leaves nothing to learn."""
    last = epochs[-1]
    examples = lessons(bench, epochs)
    if not examples:
        raise ConfigError(
            f"epoch {last.epoch} judges every training question right and leaves train.select={bench.config.train.select} "
            "nothing to learn: use --train.select all, or keep its judge"
        )
    title = f"epoch {last.epoch + 1}: training on {len(examples)} questions"
    first = [epochs[0].collected.graded] if epochs[0].collected != last.collected else []
    evidence = [questions, *first, last.collected.graded, last.judged]
    return bench.train(title, last.epoch + 1, examples, evidence=evidence, parent=last.trained)


def next_epoch(bench: Bench, questions: Result, epochs: Sequence[EpochResult]) -> EpochResult:
    """Train, and judge all splits again; collect anew the answers that training has changed."""
    first, number = epochs[0].collected, epochs[-1].epoch + 1
    trained = train_next(bench, questions, epochs)
    kept = None if bench.answers_change else first
    collected, judged = judge_anew(bench, questions, bench.judge_of(trained), kept, epoch=number)
    return evaluate(bench, collected, judged, epoch=number, trained=trained, frozen=None if kept else first)


def judge_anew(
    bench: Bench, questions: Result, judge: ModelRef, kept: Collected | None, *, epoch: int | None = None
) -> tuple[Collected, Result]:
    """The answers that `judge` is scored against, `kept` or else its own, and its judgments."""
    title = "" if epoch is None else f"epoch {epoch}: "
    if kept is not None:
        return kept, bench.examine(f"{title}judging", questions, answerer=None, judge=judge)
    judged = bench.examine(f"{title}answers and judgments", questions, answerer=judge, judge=judge)
    return Collected(sampled=judged, graded=bench.grade(questions, judged)), judged


def evaluate(
    bench: Bench,
    collected: Collected,
    judged: Result,
    *,
    epoch: int = 0,
    trained: Result | None = None,
    frozen: Collected | None = None,
) -> EpochResult:
    """The judgments of `judged` against the answers `collected`, and, where they differ, against the `frozen` first ones."""
    mode, seed = bench.config.label_mode, bench.config.seed
    by_split = bench.collect(collected.graded, judged)
    before = bench.collect(frozen.graded, judged) if frozen else {}
    fitted = cross_fit(by_split[Split.CALIBRATION], mode)
    scores, facts = measure(bench, by_split, None if fitted is None else fitted.calibration)
    for split, examined in before.items():
        added = against_frozen(by_split[split], examined, mode, seed)
        facts[split] |= {**added, "undefined": {**facts[split]["undefined"], **added["undefined"]}}
    return EpochResult(
        epoch=epoch,
        trained=trained,
        collected=collected,
        judged=judged,
        examined=by_split,
        fitted=fitted,
        scores=scores,
        facts=facts,
    )


def measure(
    bench: Bench, by_split: Mapping[Split, Sequence[Examined]], calibration: Calibration | None
) -> tuple[dict[str, Scores], dict[str, dict[str, Any]]]:
    """The columns of each split, with forecasts by `calibration`, and the numbers from them."""
    config = bench.config
    scores = {str(split): scores_of(examined, config.label_mode, calibration) for split, examined in by_split.items()}
    dropped = {str(split): len(bench.questions.of(split)) - len(examined) for split, examined in by_split.items()}
    return scores, {split: summarize(scores[split], dropped[split], seed=config.seed) for split in scores}


def summary(config: RunConfig, epochs: Sequence[EpochResult]) -> dict[str, Any]:
    """The content of summary.json."""
    shown = (Split.TRAIN, Split.DEV, Split.VALIDATION)
    return {
        "schema": 1,
        "model": config.model,
        "dataset": config.dataset,
        "label_mode": str(config.label_mode),
        "tuning": config.tuning,
        "seed": config.seed,
        "best_epoch": best_of(epochs).epoch,
        "epochs": [{"epoch": result.epoch, **{str(split): result.facts[split] for split in shown}} for result in epochs],
    }


def _chosen(epochs: Sequence[EpochResult]) -> Chosen:
    """The judge of the best epoch, for its evidence."""
    best = best_of(epochs)
    return Chosen(
        examined=best.examined,
        scores=best.scores,
        fitted=best.fitted,
        sampled=best.collected.sampled,
        untrained=epochs[0].examined,
    )


def _show(bench: Bench, questions: Result, epochs: Sequence[EpochResult]) -> None:
    """Print the table so far, and write what is known: a run that is cut short leaves what it has found."""
    _write(bench, questions, epochs, {})
    bench.console.print(summary_table(summary(bench.config, epochs)))


def _write(bench: Bench, questions: Result, epochs: Sequence[EpochResult], found: Mapping[str, Any]) -> None:
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
            examples=examples_worth_reading(best.examined[Split.VALIDATION], answered.folder.read())
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


def _keep(bench: Bench, best: EpochResult, found: Mapping[str, Any]) -> None:
    """Write the judge of the best epoch, with what may be promised of it."""
    config, base = bench.config, bench.base
    words = list(prompts.VERDICT_WORDS[config.label_mode].values())
    card = JudgeCard(
        experiment=bench.experiment.name,
        epoch=best.epoch,
        tuning=config.tuning,
        base=base.name,
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
        calibration=None if best.fitted is None else best.fitted.calibration,
        thresholds=tuple(found["thresholds"]),
    )
    write_judge(bench.experiment.judge, card, best.trained.folder.path if best.trained else None)
    write_card(bench, {**summary(config, [best]), **found})
    bench.console.print(f"judge of epoch {best.epoch}: {bench.experiment.judge}")
    if config.push_to_hub:
        bench.console.print(f"pushed to {push_judge(bench, config.push_to_hub)}")
    bench.console.print(f"report: {bench.experiment.report}")
