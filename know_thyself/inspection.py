"""What a judge prompt is, token by token: the same encoding that sampling, training, judging and serving use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from know_thyself import prompts
from know_thyself.config import TrainConfig
from know_thyself.errors import ConfigError
from know_thyself.learning.lesson import Lesson
from know_thyself.types import LabelMode, PromptStyle, Question, Verdict

if TYPE_CHECKING:
    from know_thyself.engine.chat import ChatTokenizer


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token: its id, and its text with what cannot be printed escaped."""

    id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A judge prompt taken apart.

    `system`, `thinking` and `bos` say how the chat template is used, `prefill` what opens the reply, `stop` what ends it. The
    token after `verdict_position` is the verdict, one of `verdicts` by word. `loss` says, by setting of train.loss, at which
    positions the guess at the next token is taught.
    """

    prompt: str
    system: str
    thinking: str
    prefill: str
    bos: str
    stop: tuple[Token, ...]
    verdicts: dict[str, Token]
    verdict_position: int
    tokens: tuple[Token, ...]
    loss: dict[str, tuple[bool, ...]]


def inspect_prompt(chat: ChatTokenizer, question: Question, style: PromptStyle, mode: LabelMode) -> Inspection:
    """The judge prompt for `question`. Raises `ConfigError` when the verdict words cannot be told apart at its end."""
    words = list(prompts.VERDICT_WORDS[mode].values())
    messages = prompts.judge_messages(question, style, mode)
    text, ids = chat.text(messages), chat.encode(messages)
    return Inspection(
        prompt=text,
        system="folded into the first user turn" if chat.template.folds_system else "a turn of its own",
        thinking=str(chat.template.thinking),
        prefill=_escaped(chat.prefill),
        bos=_bos(chat, text, ids),
        stop=tuple(_token(chat, number) for number in chat.stop_tokens),
        verdicts={word: _token(chat, number) for word, number in zip(words, chat.word_tokens(words), strict=True)},
        verdict_position=len(ids) - 1,
        tokens=tuple(_token(chat, number) for number in ids),
        loss={
            "verdict": _taught(chat, question, _lesson(style, mode, TrainConfig(loss="verdict")), len(ids)),
            "sequence": _taught(chat, question, _lesson(style, mode, TrainConfig(loss="sequence", target="hard")), len(ids)),
        },
    )


def _taught(chat: ChatTokenizer, question: Question, lesson: Lesson, length: int) -> tuple[bool, ...]:
    """At which of the first `length` positions `lesson` teaches the guess at the next token: nowhere where it cannot be had."""
    from know_thyself.learning.objectives import example_of

    target = [float(verdict is Verdict.CAN) for verdict in prompts.VERDICT_WORDS[lesson.mode]]
    try:
        example = example_of(lesson, chat, {**question.to_row(), "target": target, "weight": 1.0})
    except ConfigError:
        return (False,) * length
    first = example.target if isinstance(example.target, int) else len(example.tokens)
    return tuple(i + 1 >= first for i in range(length))


def _lesson(style: PromptStyle, mode: LabelMode, config: TrainConfig) -> Lesson:
    """A lesson that is only asked what an example of it is."""
    return Lesson(
        base="",
        folder="",
        parent=None,
        config=config,
        tuning="lora",
        style=style,
        mode=mode,
        seed=0,
        epoch=1,
        device="cpu",
        cores=1,
        logs="",
        trust_remote_code=False,
        prefill=None,
        deepspeed={},
    )


def _token(chat: ChatTokenizer, number: int) -> Token:
    return Token(id=number, text=_escaped(str(chat.tokenizer.decode([number]))))


def _escaped(text: str) -> str:
    return repr(text)[1:-1]


def _bos(chat: ChatTokenizer, text: str, ids: list[int]) -> str:
    bos = chat.tokenizer.bos_token
    if bos is None or ids[0] != chat.tokenizer.bos_token_id:
        return "none"
    return "one, written by the template" if text.startswith(str(bos)) else "one, added by the tokenizer"
