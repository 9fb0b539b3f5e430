"""What a run will do before it does it: resolved settings, stages already there, questions, tokens and cost expected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from know_thyself import prompts
from know_thyself.config import RunConfig
from know_thyself.cost import Work, cost_of, throughput_of
from know_thyself.data.sources import find_source
from know_thyself.errors import HubError
from know_thyself.experiment import MARKER, experiment_name, experiments_root
from know_thyself.experiment.place import address, pull
from know_thyself.pipelines.inputs import load_questions
from know_thyself.types import Question, Split

CHARACTERS_PER_TOKEN = 4.0
"""A usual figure for English under a large vocabulary; the estimate loads no tokenizer."""


def dry_run(config: RunConfig) -> dict[str, Any]:
    """The resolved settings, the experiment and its finished stages, and what a full run would read, write and cost.

    The estimate is of one judge, so of a study's first phase alone, and without what its baselines take. Where the hub is out
    of reach it says so, and tells what the data set's card says.
    """
    try:
        told = _told(config)
    except HubError as error:
        told = {"not_read": str(error), **_by_card(config)}
    path = experiments_root(config) / experiment_name(config)
    markers = pull(path / "stages", f"*/{MARKER}").glob(f"*/{MARKER}")
    return {
        "config": config.model_dump(mode="json"),
        "experiment": address(path),
        "stages_done": sorted(marker.parent.name for marker in markers),
        **told,
    }


def _told(config: RunConfig) -> dict[str, Any]:
    """What the questions themselves tell."""
    questions = load_questions(config)
    return {
        "questions": {str(split): len(questions.of(split)) for split in Split},
        "dropped": questions.dropped,
        "estimate": _estimate(config, questions.questions, len(questions.of(Split.TRAIN))),
    }


def _by_card(config: RunConfig) -> dict[str, Any]:
    """What can be said of a known data set unread: its rows as its card states them, and of these what is asked for at most."""
    source = find_source(config)
    rows = source.subsets.get(source.subset(config.data) or "") if source else None
    if rows is None:
        return {}
    wanted = zip(rows, (config.data.num_train, config.data.num_validation), strict=True)
    asked = [count if most is None else min(count, most) for count, most in wanted]
    sampling = config.sampling
    return {
        "rows_by_card": {"train": rows[0], "validation": rows[1]},
        "estimate": {
            "questions_at_most": sum(asked),
            "generated_tokens_at_most": _collections(config) * sum(asked) * sampling.num_trials * sampling.max_tokens,
        },
    }


def _collections(config: RunConfig) -> int:
    """How often all questions are answered: once, again after every epoch that changes the answers, never where logs tell."""
    if config.label.source == "logs":
        return 0
    return 1 + config.train.epochs if config.tuning == "full" else 1


def _estimate(config: RunConfig, questions: Iterable[Question], num_train: int) -> dict[str, Any]:
    asked, (throughput, measured_by) = list(questions), throughput_of(config)
    characters = sum(len(prompts.ANSWER_SYSTEM) + len(prompts.ask(question)) for question in asked)
    prompt = characters / (throughput.characters_per_token or CHARACTERS_PER_TOKEN)
    epochs, collections, sampling = config.train.epochs, _collections(config), config.sampling
    share, answers = num_train / len(asked), collections * len(asked) * sampling.num_trials
    trained = prompt * share * epochs * config.train.passes
    work = Work(
        sampled=answers * (throughput.answer_tokens or sampling.max_tokens),
        judged=prompt * (1 + epochs),
        trained=trained,
        starts=(1 + epochs) * config.engine.actors_max + epochs * config.train.workers_max,
    )
    return {
        "prompt_tokens": round(prompt * (collections + 1 + epochs)),
        "generated_tokens_at_most": answers * sampling.max_tokens,
        **({} if throughput.answer_tokens is None else {"generated_tokens": round(work.sampled)}),
        "trained_tokens_at_most": round(trained),
        "throughput": {**dataclasses.asdict(throughput), "measured_by": measured_by},
        **cost_of(work, throughput, config.cost),
    }
