"""One stage alone, on the same settings and in the same experiment folder as the whole pipeline, which later finds it done.

Each function does what it is named for, and what that stands on as far as it is not there yet.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from know_thyself.errors import ConfigError
from know_thyself.experiment import write_whole
from know_thyself.judge import ADAPTER, MODEL, JudgeCard, check_base, read_judge
from know_thyself.models import resolve_model
from know_thyself.pipelines import adaptive
from know_thyself.pipelines.bench import Bench
from know_thyself.pipelines.table import evaluation_table
from know_thyself.types import Ability, ModelRef

EVALUATION, JUDGED_BY = "evaluation.json", "judged_by.json"


def sample(bench: Bench) -> Path:
    """Five answers of the base to every question, and its untrained judgment; the folder of the table."""
    return adaptive.examine_first(bench, bench.put_questions()).folder.path


def label(bench: Bench) -> Path:
    """Grade those answers and say what they show; the folder of the grades."""
    result = adaptive.untrained(bench, bench.put_questions())
    for split, examined in result.examined.items():
        counts = Counter(e.label.ability for e in examined)
        shares = ", ".join(f"{ability} {counts[ability] / max(1, len(examined)):.1%}" for ability in Ability)
        bench.console.print(f"{split}: {len(examined)} questions labelled: {shares}", highlight=False)
    return result.collected.graded.folder.path


def train(bench: Bench) -> Path:
    """Train the epoch that `start_epoch` names, upon those before it; the folder of what was trained."""
    questions = bench.put_questions()
    epochs = [adaptive.untrained(bench, questions)]
    while len(epochs) < bench.config.start_epoch:
        epochs.append(adaptive.next_epoch(bench, questions, epochs))
    return adaptive.train_next(bench, questions, epochs).folder.path


def merge(bench: Bench) -> Path:
    """The judge of `config.judge` (or the experiment's own) with its adapter merged into the base: a plain model folder.

    Raises `ConfigError` when it has no adapter to merge.
    """
    folder, _ = _judge(bench)
    adapter = folder / ADAPTER
    if not adapter.is_dir():
        raise ConfigError(f"judge {folder} has no adapter to merge: give one that was trained with --tuning lora")
    return Path(bench.merged(adapter).name)


def judge(bench: Bench) -> Path:
    """Let the judge of `config.judge` (or the experiment's own) judge every question; the folder of the table."""
    folder, card = _judge(bench)
    judged = bench.examine("judging", bench.put_questions(), answerer=None, judge=_weights(bench, folder, card))
    write_whole(judged.folder.path / JUDGED_BY, json.dumps(_identity(bench, folder, card), indent=2) + "\n")
    return judged.folder.path


def evaluate(bench: Bench) -> Path:
    """The judgments of that judge against what its answerer answers; the file with the numbers of every split."""
    folder, card = _judge(bench)
    questions = bench.put_questions()
    weights = _weights(bench, folder, card)
    if card.tuning == "full":
        judged = bench.examine("answers and judgments", questions, answerer=weights, judge=weights)
        collected = adaptive.Collected(sampled=judged, graded=bench.grade(questions, judged))
    else:
        collected = adaptive.untrained(bench, questions).collected
        judged = bench.examine("judging", questions, answerer=None, judge=weights)
    facts = adaptive.evaluate(bench, collected, judged, epoch=card.epoch).facts
    path = bench.experiment.path / EVALUATION
    write_whole(path, json.dumps({**_identity(bench, folder, card), "splits": facts}, indent=2, allow_nan=False) + "\n")
    bench.console.print(evaluation_table(facts))
    return path


def _judge(bench: Bench) -> tuple[Path, JudgeCard]:
    """The judge that the settings mean, fit to judge this model in this way. Raises `JudgeError` or `ConfigError`."""
    config = bench.config
    folder = Path(config.judge).absolute() if config.judge else bench.experiment.judge
    card = read_judge(folder)
    if not config.allow_stale:
        check_base(card, bench.base)
    asked = {"--prompt-style": config.prompt_style, "--label-mode": config.label_mode}
    for flag, wanted, given in zip(asked, asked.values(), (card.prompt_style, card.label_mode), strict=True):
        if wanted != given:
            raise ConfigError(f"judge {folder} was trained with {flag} {given}, not {wanted}: ask it with {flag} {given}")
    return folder, card


def _weights(bench: Bench, folder: Path, card: JudgeCard) -> ModelRef:
    """What the engines load to judge: the base with the judge's adapter, the judge's own model, or the untrained base."""
    if (folder / ADAPTER).is_dir():
        return bench.adapted(folder / ADAPTER)
    if card.tuning == "full" and (folder / MODEL).is_dir():
        return resolve_model(str(folder / MODEL), None, bench.config.trust_remote_code)
    return bench.base


def _identity(bench: Bench, folder: Path, card: JudgeCard) -> dict[str, Any]:
    """Which judge judged which model; `stale` when it was trained on another."""
    stale = card.base_digest != bench.base.digest
    return {"judge": str(folder), "epoch": card.epoch, "event": card.event, "model": bench.base.name, "stale": stale}
