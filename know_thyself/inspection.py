"""What a judge prompt is, token by token: the same encoding that sampling, training, judging and serving use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from know_thyself import prompts
from know_thyself.types import LabelMode, PromptStyle, Question

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
    last = len(ids) - 1
    return Inspection(
        prompt=text,
        system="folded into the first user turn" if chat.template.folds_system else "a turn of its own",
        thinking=str(chat.template.thinking),
        prefill=_escaped(chat.prefill),
        bos=_bos(chat, text, ids),
        stop=tuple(_token(chat, number) for number in chat.stop_tokens),
        verdicts={word: _token(chat, number) for word, number in zip(words, chat.word_tokens(words), strict=True)},
        verdict_position=last,
        tokens=tuple(_token(chat, number) for number in ids),
        loss={"verdict": tuple(i == last for i in range(len(ids))), "sequence": (True,) * len(ids)},
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
