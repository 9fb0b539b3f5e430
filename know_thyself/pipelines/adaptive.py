"""The adaptive pipeline: measure what the model can answer, then teach it, epoch by epoch, to judge that beforehand.

Step 0 samples and judges all splits with the untrained model. Each epoch trains on the last epoch's judgments, then judges all
splits again; the labels are the frozen answerer's, measured once. The epoch with the lowest dev log loss is the judge; the
untrained model counts as epoch 0. Validation is looked at, never chosen on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from know_thyself import prompts
from know_thyself.compute.session import check_cpus, cluster_device, ray_session
from know_thyself.config import RunConfig
from know_thyself.evaluation.evidence import Examined, examples_worth_reading, scores_of
from know_thyself.evaluation.metrics import Scores, summarize
from know_thyself.evaluation.report import Report, write_report
from know_thyself.evaluation.selection import select_examples
from know_thyself.experiment import versions, write_experiment, write_whole
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.pipelines.bench import Bench, Result, engine_mode, rule_of
from know_thyself.pipelines.inputs import Inputs
from know_thyself.pipelines.table import summary_table
from know_thyself.stages import training
from know_thyself.types import JudgmentExample, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What all epochs stand on: the questions, their first examination with the trials, and the grades of these."""

    questions: Result
    first: Result
    graded: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: what was trained (nothing in epoch 0), the judgments, and what they are worth on each split."""

    epoch: int
    trained: Result | None
    examined: Mapping[Split, Sequence[Examined]]
    judged: Result
    scores: Mapping[str, Scores]
    facts: Mapping[str, Mapping[str, Any]]

    @property
    def dev_loss(self) -> float:
        """Log loss on dev, infinite where undefined: what the epoch is chosen by."""
        loss = self.facts[Split.DEV]["log_loss"]
        return float("inf") if loss is None else float(loss)


def best_of(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the lowest dev log loss; the earlier of equals."""
    return min(epochs, key=lambda result: (result.dev_loss, result.epoch))


def run(config: RunConfig, inputs: Inputs, console: Console) -> Path:
    """Run the adaptive pipeline of `config` on `inputs`, from where an earlier run of it stopped; the experiment's folder."""
    with write_experiment(config) as experiment:
        console.print(f"experiment {experiment.path}")
        with ray_session(config.address, experiment.logs):
            device = cluster_device(config.engine.device)
            check_cpus(config.engine.actors_min)
            bench = Bench(
                config=config,
                experiment=experiment,
                inputs=inputs,
                console=console,
                device=device,
                mode=engine_mode(config, device),
            )
            return _run(bench)


def _run(bench: Bench) -> Path:
    questions = bench.put_questions()
    logged = bool(bench.questions.logs)
    title = "epoch 0: a judgment each" if logged else "epoch 0: five answers and a judgment each"
    first = bench.examine(title, questions, answerer=None if logged else bench.base, judge=bench.base)
    graded = bench.put_grades(questions) if logged else bench.grade(questions, first)
    ground = Ground(questions=questions, first=first, graded=graded)
    epochs = [_evaluate(bench, ground, 0, None, first)]
    _show(bench, ground, epochs)
    while len(epochs) <= bench.config.train.epochs and not _stalled(epochs, bench.config.train.patience):
        examples = select_examples(epochs[-1].examined[Split.TRAIN], bench.config.train.select, bench.config.label_mode)
        if not examples:
            bench.console.print("every training question is judged right: nothing left to learn")
            break
        epochs.append(_epoch(bench, ground, epochs[-1], examples))
        _show(bench, ground, epochs)
    _keep(bench, best_of(epochs))
    return bench.experiment.path


def _stalled(epochs: Sequence[EpochResult], patience: int) -> bool:
    return len(epochs) - 1 - best_of(epochs).epoch >= patience


def _epoch(bench: Bench, ground: Ground, last: EpochResult, examples: Sequence[JudgmentExample]) -> EpochResult:
    """Train on `examples`, going on from `last`, and judge all splits again."""
    number = last.epoch + 1
    title = f"epoch {number}: training on {len(examples)} questions"
    evidence = [ground.questions, ground.graded, last.judged]
    trained = bench.train(title, number, examples, evidence=evidence, parent=last.trained)
    judge = bench.judge_of(trained)
    judged = bench.examine(f"epoch {number}: judging", ground.questions, answerer=None, judge=judge)
    return _evaluate(bench, ground, number, trained, judged)


def _evaluate(bench: Bench, ground: Ground, epoch: int, trained: Result | None, judged: Result) -> EpochResult:
    scores, facts = {}, {}
    by_split = bench.collect(ground.graded, judged)
    for split, examined in by_split.items():
        scores[str(split)] = scores_of(examined, bench.config.label_mode)
        dropped = len(bench.questions.of(split)) - len(examined)
        facts[str(split)] = summarize(scores[str(split)], dropped, seed=bench.config.seed)
    return EpochResult(epoch=epoch, trained=trained, examined=by_split, judged=judged, scores=scores, facts=facts)


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


def _show(bench: Bench, ground: Ground, epochs: Sequence[EpochResult]) -> None:
    """Print the table so far, and write summary and report: a run that is cut short leaves what it has found."""
    content = {**summary(bench.config, epochs), "context_cut": bench.inputs.context_cut}
    write_whole(bench.experiment.summary, json.dumps(content, indent=2, allow_nan=False) + "\n")
    best = best_of(epochs)
    write_report(
        bench.experiment.report,
        Report(
            name=bench.experiment.name,
            summary=content,
            scores={result.epoch: result.scores for result in epochs},
            best_epoch=best.epoch,
            config=bench.config.model_dump(mode="json"),
            versions=versions(),
            dropped=bench.questions.dropped,
            examples=examples_worth_reading(best.examined[Split.VALIDATION], ground.first.folder.read()),
        ),
    )
    bench.console.print(summary_table(content))


def _keep(bench: Bench, best: EpochResult) -> None:
    """Write the judge of the best epoch."""
    config, base = bench.config, bench.base
    words = list(prompts.VERDICT_WORDS[config.label_mode].values())
    card = JudgeCard(
        experiment=bench.experiment.name,
        epoch=best.epoch,
        base=base.name,
        base_digest=base.digest,
        prompt_version=prompts.PROMPT_VERSION,
        prompt_style=config.prompt_style,
        label_mode=config.label_mode,
        verdict_words=tuple(words),
        verdict_tokens=bench.inputs.verdict_tokens,
        event=rule_of(config).event(config.label_mode),
        label_rule=str(rule_of(config)),
        decoding=config.sampling.model_dump(),
    )
    write_judge(bench.experiment.judge, card, best.trained.folder.path / training.ADAPTER if best.trained else None)
    bench.console.print(f"judge of epoch {best.epoch}: {bench.experiment.judge}")
    bench.console.print(f"report: {bench.experiment.report}")
