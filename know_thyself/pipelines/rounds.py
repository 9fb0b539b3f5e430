"""The round that all pipelines are made of: train, collect, judge; and the epochs of a judge, one round after the other.

Step 0 samples and judges all splits with the untrained model. Each epoch trains on the last epoch's judgments, then judges all
splits again. With LoRA the answerer is frozen and its labels are measured once; full fine-tuning changes the answers too, so
every epoch collects them again, and a judge is scored against the labels of the answerer it has become, with what it lost or
gained in answering, and against the first labels, beside it. The epoch with the lowest dev log loss is the judge; the untrained
model counts as epoch 0. Validation is looked at, never chosen on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from know_thyself.errors import ConfigError
from know_thyself.evaluation.calibration import Calibration, Fitted
from know_thyself.evaluation.evidence import Examined, Records, against_frozen, cross_fit, scores_of
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.selection import select_examples
from know_thyself.labeling import TargetRule
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.pipelines.inputs import rule_of
from know_thyself.types import JudgmentExample, ModelRef, Split

KEPT = (Split.CALIBRATION, Split.VALIDATION)
"""The splits whose columns outlive their numbers: a judge's promises are computed from these. Most questions are in others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Collected:
    """The answers of one answerer: the examination that sampled them, and their grades; logs hold counts alone."""

    sampled: Result | None
    graded: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class EpochResult:
    """One epoch: what was trained (nothing in epoch 0), the answers it is scored against, the judgments, and their worth.

    `fitted` is the calibration by this epoch's calibration questions, None where there are too few; `scores` are of the splits
    in `KEPT`. Questions with labels and judgments are not kept but read anew.
    """

    epoch: int
    trained: Result | None
    collected: Collected
    judged: Result
    fitted: Fitted | None
    scores: Mapping[str, Scores]
    facts: Mapping[str, Mapping[str, Any]]

    def examined(self, bench: Bench) -> dict[Split, Records]:
        """The questions of each split with their labels and this epoch's judgments."""
        return bench.collect(self.collected.graded, self.judged)

    @property
    def calibration(self) -> Calibration | None:
        """The map from what this epoch's judge says to p_correct, None where it is not calibrated."""
        return None if self.fitted is None else self.fitted.calibration

    @property
    def dev_loss(self) -> float:
        """Loss of the verdict words on dev (of two verdicts the log loss), infinite where undefined: it chooses the epoch."""
        loss = self.facts[Split.DEV]["verdict_loss"]
        return float("inf") if loss is None else float(loss)


def best_of(epochs: Sequence[EpochResult]) -> EpochResult:
    """The epoch with the lowest dev log loss; the earlier of equals."""
    return min(epochs, key=lambda result: (result.dev_loss, result.epoch))


def judge_epochs(bench: Bench, questions: Result, show: Callable[[Sequence[EpochResult]], None]) -> list[EpochResult]:
    """All epochs of a judge of the bench's base, the untrained one first; `show` is given those so far after each."""
    epochs = [untrained(bench, questions)]
    show(epochs)
    while len(epochs) <= bench.config.train.epochs and not _stalled(epochs, bench.config.train.patience):
        examples = lessons(bench, epochs)
        if not examples:
            bench.console.print("every training question is judged right: nothing left to learn")
            break
        epochs.append(next_epoch(bench, questions, epochs, examples))
        show(epochs)
    return epochs


def _targets(bench: Bench, first: EpochResult) -> TargetRule:
    """What examples teach in all epochs, by the counts of the training questions at the start."""
    config, labels = bench.config, (examined.label for examined in first.examined(bench)[Split.TRAIN])
    return TargetRule.fit(labels, config.label_mode, config.train.target, rule_of(config))


def _stalled(epochs: Sequence[EpochResult], patience: int) -> bool:
    return len(epochs) - 1 - best_of(epochs).epoch >= patience


def examine_first(bench: Bench, questions: Result) -> Result:
    """The untrained model's judgments and, unless logs hold the counts, its answers, in one pass."""
    logged = bool(bench.questions.logs)
    trials = bench.config.sampling.num_trials
    answers = "" if logged else "1 answer and " if trials == 1 else f"{trials} answers and "
    title = f"epoch 0: {answers}a judgment each"
    return bench.examine(title, questions, answerer=None if logged else bench.base, judge=bench.base, epoch=0)


def untrained(bench: Bench, questions: Result) -> EpochResult:
    """Epoch 0: what the model can answer, and what it says of that before any training."""
    first = examine_first(bench, questions)
    if bench.questions.logs:
        return evaluate(bench, Collected(sampled=None, graded=bench.put_grades(questions)), judged=first)
    return evaluate(bench, Collected(sampled=first, graded=bench.grade(questions, first)), judged=first)


def lessons(bench: Bench, epochs: Sequence[EpochResult]) -> list[JudgmentExample]:
    """What the epoch after the last of `epochs` trains on; none when it judges all training questions right."""
    targets = _targets(bench, epochs[0])
    return select_examples(epochs[-1].examined(bench)[Split.TRAIN], bench.config.train.select, targets)


def owed_lessons(bench: Bench, epochs: Sequence[EpochResult]) -> list[JudgmentExample]:
    """The same. Raises `ConfigError` when there are none."""
    examples = lessons(bench, epochs)
    if not examples:
        raise ConfigError(
            f"epoch {epochs[-1].epoch} judges every training question right and leaves "
            f"train.select={bench.config.train.select} nothing to learn: use --train.select all, or keep its judge"
        )
    return examples


def train_next(bench: Bench, questions: Result, epochs: Sequence[EpochResult], examples: Sequence[JudgmentExample]) -> Result:
    """Train an epoch more on `examples`, the lessons of `epochs`, going on from the last of these."""
    last = epochs[-1]
    title = f"epoch {last.epoch + 1}: training on {len(examples)} questions"
    first = [epochs[0].collected.graded] if epochs[0].collected != last.collected else []
    evidence = [questions, *first, last.collected.graded, last.judged]
    return bench.train(title, last.epoch + 1, examples, evidence=evidence, parent=last.trained)


def next_epoch(
    bench: Bench, questions: Result, epochs: Sequence[EpochResult], examples: Sequence[JudgmentExample]
) -> EpochResult:
    """Train as `train_next`, and judge all splits again; collect anew the answers that training has changed."""
    first, number = epochs[0].collected, epochs[-1].epoch + 1
    trained = train_next(bench, questions, epochs, examples)
    kept = None if bench.answers_change else first
    collected, judged = judge_anew(bench, questions, bench.learned(trained), kept, epoch=number)
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
        fitted=fitted,
        scores=scores,
        facts=facts,
    )


def measure(
    bench: Bench, by_split: Mapping[Split, Iterable[Examined]], calibration: Calibration | None
) -> tuple[dict[str, Scores], dict[str, dict[str, Any]]]:
    """The columns of the splits in `KEPT`, with forecasts by `calibration`, and the numbers from those of each."""
    kept, facts = dict[str, Scores](), dict[str, dict[str, Any]]()
    for split, examined in by_split.items():
        scores = scores_of(examined, bench.config.label_mode, calibration)
        facts[str(split)] = summarize(scores, len(bench.questions.of(split)) - len(scores), seed=bench.config.seed)
        if split in KEPT:
            kept[str(split)] = scores
    return kept, facts
