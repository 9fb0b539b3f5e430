"""One stage alone, on the same settings and in the same experiment folder as the whole pipeline, which later finds it done.

Each function does what it is named for, and what that stands on as far as it is not there yet and may be made.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from know_thyself.errors import ConfigError
from know_thyself.evaluation.findings import refitted_facts
from know_thyself.experiment import write_whole
from know_thyself.experiment.place import address
from know_thyself.judge import ADAPTER, MODEL
from know_thyself.models import resolve_model
from know_thyself.pipelines import rounds
from know_thyself.pipelines.bench import Bench
from know_thyself.pipelines.judges import FoundJudge
from know_thyself.pipelines.table import evaluation_table
from know_thyself.types import Ability, ModelRef, Split

REFITTED_ON = (50, 200)
"""Labels; none at all is the calibration that the judge brings."""
EVALUATION, JUDGED_BY = "evaluation.json", "judged_by.json"


def sample(bench: Bench) -> Path:
    """The base's answers to every question, unless logs tell of them, and its untrained judgment; the folder of the table."""
    return rounds.examine_first(bench, bench.put_questions()).folder.path


def label(bench: Bench) -> Path:
    """Grade those answers and say what they show; the folder of the grades."""
    result = rounds.untrained(bench, bench.put_questions())
    for split, examined in result.examined(bench).items():
        counts = Counter(e.label.ability for e in examined)
        shares = ", ".join(f"{ability} {counts[ability] / max(1, counts.total()):.1%}" for ability in Ability)
        bench.console.print(f"{split}: {counts.total()} questions labelled: {shares}", highlight=False)
    return result.collected.graded.folder.path


def train(bench: Bench) -> Path:
    """Train the epoch that `start_epoch` names, upon those before it; the folder of what was trained.

    What the earlier epochs trained must stand; what their judges say of the questions is asked for where it does not. Raises
    `ConfigError` when there is no such epoch, or nothing is left to learn in it.
    """
    config = bench.config
    if config.start_epoch > config.train.epochs:
        raise ConfigError(
            f"start-epoch={config.start_epoch} names no epoch to train, with train.epochs={config.train.epochs}: lower the "
            "first or raise the second"
        )
    bench.check_workers()
    questions = bench.put_questions()
    epochs = [rounds.untrained(bench, questions)]
    while len(epochs) < config.start_epoch:
        epochs.append(rounds.next_epoch(bench, questions, epochs, rounds.owed_lessons(bench, epochs)))
    return rounds.train_next(bench, questions, epochs, rounds.owed_lessons(bench, epochs)).folder.path


def merge(bench: Bench, found: FoundJudge) -> Path:
    """The judge with its adapter merged into the base: a plain model folder. Raises `ConfigError` when it has no adapter."""
    adapter = found.folder / ADAPTER
    if not adapter.is_dir():
        raise ConfigError(
            f"judge {address(found.folder)} has no adapter to merge: give one that was trained with --tuning lora"
        )
    return Path(bench.merged(adapter).name)


def judge(bench: Bench, found: FoundJudge) -> Path:
    """Let the judge judge every question; the folder of the table."""
    judged = bench.examine("judging", bench.put_questions(), answerer=None, judge=_weights(bench, found))
    write_whole(judged.folder.path / JUDGED_BY, json.dumps(_identity(bench, found), indent=2) + "\n")
    return judged.folder.path


def evaluate(bench: Bench, found: FoundJudge) -> Path:
    """The judgments of the judge against what its answerer answers; the file with the numbers of every split.

    What it expects is read by the calibration that it brings; beside it stands what one fitted anew on a few labels of these
    questions (`REFITTED_ON`, of their calibration split) would come to: the price of coming to questions of another kind.
    """
    questions = bench.put_questions()
    kept = None if bench.answers_change else rounds.untrained(bench, questions).collected
    collected, judged = rounds.judge_anew(bench, questions, _weights(bench, found), kept)
    scores, facts = rounds.measure(bench, bench.collect(collected.graded, judged), found.card.calibration)
    learned, measured = scores[Split.CALIBRATION], scores[Split.VALIDATION]
    refitted = refitted_facts(learned, measured, REFITTED_ON, seed=bench.config.seed)
    content = {**_identity(bench, found), "splits": facts, "refitted": refitted}
    path = bench.experiment.path / EVALUATION
    write_whole(path, json.dumps(content, indent=2, allow_nan=False) + "\n")
    bench.console.print(evaluation_table(facts))
    return path


def _weights(bench: Bench, found: FoundJudge) -> ModelRef:
    """What the engines load to judge: the base with the judge's adapter, the judge's own model, or the untrained base."""
    adapter, model = found.folder / ADAPTER, found.folder / MODEL
    if adapter.is_dir():
        return bench.adapted(adapter)
    return resolve_model(str(model), None, bench.config.trust_remote_code) if model.is_dir() else bench.base


def _identity(bench: Bench, found: FoundJudge) -> dict[str, Any]:
    """Which judge judged which model."""
    card = found.card
    return {
        "judge": address(found.folder),
        "epoch": card.epoch,
        "event": card.event,
        "model": address(bench.base.name),
        "stale": found.stale,
    }
