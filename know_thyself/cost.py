"""What a run will do before it does it: resolved settings, stages already there, questions and tokens expected."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from know_thyself import prompts
from know_thyself.config import RunConfig
from know_thyself.experiment import MARKER, experiment_name, experiments_root
from know_thyself.pipelines.inputs import load_questions
from know_thyself.types import Question, Split

CHARACTERS_PER_TOKEN = 4.0
"""A usual figure for English under a large vocabulary; the estimate loads no tokenizer."""


def dry_run(config: RunConfig) -> dict[str, Any]:
    """The resolved settings, the experiment and its finished stages, and the tokens a full run would read and write."""
    questions = load_questions(config)
    path = experiments_root(config) / experiment_name(config)
    return {
        "config": config.model_dump(mode="json"),
        "experiment": str(path),
        "stages_done": sorted(marker.parent.name for marker in path.glob(f"stages/*/{MARKER}")),
        "questions": {str(split): len(questions.of(split)) for split in Split},
        "dropped": questions.dropped,
        "estimate": _estimate(config, questions.questions, len(questions.of(Split.TRAIN))),
    }


def _estimate(config: RunConfig, questions: Iterable[Question], num_train: int) -> dict[str, int]:
    asked = list(questions)
    prompt = sum(len(prompts.ANSWER_SYSTEM) + len(prompts.ask(question)) for question in asked) / CHARACTERS_PER_TOKEN
    epochs = config.train.epochs
    share = num_train / len(asked)
    return {
        "prompt_tokens": round(prompt * (2 + epochs)),
        "generated_tokens_at_most": len(asked) * config.sampling.num_trials * config.sampling.max_tokens,
        "trained_tokens_at_most": round(prompt * share * epochs * config.train.passes),
    }
