"""What an experiment starts from, checked before anything heavy loads: its questions, its base model, its verdict words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from know_thyself import prompts
from know_thyself.artefacts import learning_fault
from know_thyself.config import LoraConfig, RunConfig
from know_thyself.data.logs import Log
from know_thyself.data.scores import read_scores
from know_thyself.data.sources import find_source, load
from know_thyself.data.splits import Questions, split_questions
from know_thyself.engine.fitting import Window, fit_contexts
from know_thyself.engine.protocol import VLLM, load_engine_factory
from know_thyself.errors import ConfigError, DataError
from know_thyself.evaluation.baselines import BASELINES
from know_thyself.grading import load_grader
from know_thyself.labeling import AbilityRule
from know_thyself.learning.zero import read_override
from know_thyself.models import resolve_model
from know_thyself.types import LabelMode, ModelRef, Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """The questions in their splits, the base model, and how chats become its tokens.

    `context_cut` counts by split the questions whose context was too long for the model and lost its end. `prefill` opens
    every reply, `encoding` is the digest of what makes tokens of a chat, `verdict_tokens` begin the verdict words.
    """

    questions: Questions
    context_cut: Mapping[Split, int]
    base: ModelRef
    prefill: str
    encoding: str
    verdict_tokens: tuple[int, ...]


def check_inputs(config: RunConfig, *, trains: bool = True) -> Inputs:
    """The inputs that `config` names. Raises `DataError` or `ConfigError` when they are missing or cannot be used.

    A model that cannot be trained as `config` says is refused where the job `trains`.
    """
    load_grader(config.grader)
    _check_scores(config)
    read_override(config.train)
    if config.engine.backend != VLLM:
        load_engine_factory(config.engine.backend)
    questions = load_questions(config)
    base = resolve_model(config.model, config.revision, config.trust_remote_code)
    if trains and config.train.epochs:
        check_learner(base, config.tuning, config.train.lora)
    from know_thyself.engine.chat import ChatTokenizer

    chat = ChatTokenizer(base.name, config.trust_remote_code, config.chat.prefill)
    tokens = chat.word_tokens(list(prompts.VERDICT_WORDS[config.label_mode].values()))
    if config.train.loss == "sequence":
        chat.turn_end()
    fitted, cut = fit_contexts(questions.questions, chat, window_of(config))
    return Inputs(
        questions=replace(questions, questions=fitted),
        context_cut=cut,
        base=base,
        prefill=chat.prefill,
        encoding=chat.digest,
        verdict_tokens=tokens,
    )


def check_learner(base: ModelRef, tuning: str, lora: LoraConfig) -> None:
    """Raise `ConfigError` for a base model that cannot be trained so: its weights, or with LoRA the targets of `lora`."""
    targets = lora.targets if tuning == "lora" else ()
    if fault := learning_fault(Path(base.name), targets):
        raise ConfigError(f"model {base.name} {fault}")


def _check_scores(config: RunConfig) -> None:
    """Raise `DataError` or `ConfigError` for a file of scores that cannot be shown as a baseline."""
    for name, path in config.evidence.scores.items():
        if name in BASELINES:
            raise ConfigError(f"evidence.scores: {name} is a baseline of our own: give {path} another name")
        read_scores(path)


def rule_of(config: RunConfig) -> AbilityRule:
    """The ability rule of `config`."""
    return AbilityRule(can_at=config.label.can_at, uncertain_at=config.label.uncertain_at)


def window_of(config: RunConfig) -> Window:
    """What the prompts of `config` must fit."""
    return Window(
        max_model_len=config.engine.max_model_len,
        max_tokens=config.sampling.max_tokens,
        style=config.prompt_style,
        mode=config.label_mode,
    )


def load_questions(config: RunConfig) -> Questions:
    """The questions that `config` names, cut into splits. Raises `DataError` or `ConfigError`."""
    loaded = load(config)
    data = config.data
    if data.overlap is None and find_source(config) is not None:
        data = data.model_copy(update={"overlap": "drop"})
    cut = split_questions(loaded.train, loaded.validation, data, config.seed)
    logs = {question.id: loaded.logs[question.id] for question in cut.questions} if loaded.logs else {}
    _check_trials(logs, config.label_mode)
    dropped = dict(Counter(loaded.dropped) + Counter(cut.dropped))
    return Questions(questions=cut.questions, dropped=dropped, logs=logs)


def _check_trials(logs: Mapping[str, Log], mode: LabelMode) -> None:
    """Raise `DataError` where the logs of a question cannot show that it is uncertain."""
    once = [name for name, log in logs.items() if log.num_trials < 2]
    if once and mode is LabelMode.UNCERTAINTY:
        raise DataError(
            f"{len(once)} of {len(logs)} questions, such as {once[0]!r}, have one trial in the logs, which cannot yield "
            '"uncertain": give two or more of each, or use --label-mode binary'
        )
