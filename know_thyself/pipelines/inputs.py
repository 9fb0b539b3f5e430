"""What an experiment starts from, checked before anything heavy loads: its questions, its base model, its verdict words."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from know_thyself import prompts
from know_thyself.config import WORLD, RunConfig
from know_thyself.data.files import read_folder
from know_thyself.data.splits import Questions, split_questions
from know_thyself.engine.protocol import VLLM, load_engine_factory
from know_thyself.grading import load_grader
from know_thyself.learning.zero import read_override
from know_thyself.models import packaged_world, resolve_model
from know_thyself.types import ModelRef


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The questions in their splits, the base model, and how chats become its tokens.

    `prefill` opens every reply, `encoding` is the digest of what makes tokens of a chat, `verdict_tokens` are those that the
    verdict words begin with.
    """

    questions: Questions
    base: ModelRef
    prefill: str
    encoding: str
    verdict_tokens: tuple[int, ...]


def check_inputs(config: RunConfig) -> Inputs:
    """The inputs that `config` names. Raises `DataError` or `ConfigError` when they are missing or cannot be used."""
    load_grader(config.grader)
    read_override(config.train)
    if config.engine.backend != VLLM:
        load_engine_factory(config.engine.backend)
    questions = load_questions(config)
    base = resolve_model(config.model, config.revision)
    from know_thyself.engine.chat import ChatTokenizer

    chat = ChatTokenizer(base.name, config.trust_remote_code, config.chat.prefill)
    tokens = chat.word_tokens(list(prompts.VERDICT_WORDS[config.label_mode].values()))
    return Inputs(questions=questions, base=base, prefill=chat.prefill, encoding=chat.digest, verdict_tokens=tokens)


def load_questions(config: RunConfig) -> Questions:
    """The questions that `config` names, cut into splits. Raises `DataError`."""
    folder = packaged_world() / "questions" if config.dataset == WORLD else Path(config.dataset)
    train, validation, unusable = read_folder(folder, config.data.malformed)
    cut = split_questions(train, validation, config.data, config.seed)
    return Questions(questions=cut.questions, dropped=dict(Counter(unusable) + Counter(cut.dropped)))
