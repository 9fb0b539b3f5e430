"""What a chat template does, found by rendering it, never by the name of its model.

Templates differ in three things that a verdict position depends on. Some have no place for a system text: they refuse a system
turn, or drop it in silence; the text is then folded into the first user turn. Some let the model think before it answers: a
variable switches that off, or a block that the template opens is closed again, or the final channel is opened. And some write a
blank before a reply. A chain of thought is never generated, so none is ever parsed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from jinja2 import TemplateError

from know_thyself.errors import ConfigError, first_line
from know_thyself.prompts import Message

SWITCHES = ("enable_thinking", "thinking")
"""Variables that switch thinking in the templates that know them; all are given as False, always."""
BLOCKS = {"<think>": "</think>", "<thinking>": "</thinking>", "[THINK]": "[/THINK]"}
"""How a block of thought is opened and closed."""
FINAL_CHANNEL = "<|channel|>final<|message|>"
"""What stands before the answer proper in templates with channels (the harmony format of GPT-OSS)."""
TODAY = datetime(2026, 1, 1)
"""The date that templates print as today's: with the true one, a prompt would be another prompt from midnight on."""
SYSTEM, USER, REPLY = "Kt-system-turn", "Kt-user-turn", "Kt-reply"
"""Texts to look for in a rendered chat."""


class Thinking(StrEnum):
    """How thinking is kept off."""

    CHANNEL = "the final channel is opened"
    OPENED = "the block of thought that the template opens is closed"
    SWITCHED = "the template's own switch is off"
    UNCLEAR = "the template knows blocks of thought, but neither opens nor switches them; if the model thinks, give a prefill"
    NONE = "the template knows no thinking"


class Render(Protocol):
    """Renders a chat, with or without the opening of the assistant's turn; raises `TemplateError`."""

    def __call__(self, chat: Sequence[Message], opened: bool, thinking: bool) -> str:
        """The text of `chat`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a chat template is used.

    `folds_system`: a system text has to go into the first user turn. `thinking`: how it is kept off. `prefill`: the text that
    has to open every reply for that. `lead`: the blank that the template itself writes before a reply. `endings`: what it puts
    after one, at the end of a chat and inside it.
    """

    folds_system: bool
    thinking: Thinking
    prefill: str
    lead: str
    endings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A template as rendered: its source, what opens the assistant's turn, what stands there before a given reply."""

    source: str
    opening: str
    before_reply: str
    is_switched: bool


def variables(thinking: bool) -> dict[str, Any]:
    """What every template is given besides the chat."""
    return {**dict.fromkeys(SWITCHES, thinking), "strftime_now": TODAY.strftime}


def fold_system(chat: Sequence[Message]) -> list[Message]:
    """`chat` with its system text, if any, at the head of the first user turn."""
    if chat[0]["role"] != "system":
        return list(chat)
    system, user, *rest = chat
    return [{**user, "content": f"{system['content']}\n\n{user['content']}"}, *rest]


def read_template(render: Render, source: str) -> Template:
    """How the template `source` is used, from what it renders.

    Raises `ConfigError` when it cannot render a user's question.
    """
    user: Message = {"role": "user", "content": USER}
    reply: Message = {"role": "assistant", "content": REPLY}
    try:
        opening = _after(render([user], opened=True, thinking=False), USER)
    except (TemplateError, TypeError) as error:
        raise ConfigError(
            f"the chat template cannot be applied ({first_line(error)}): mend it, or use another model"
        ) from error
    if opening is None:
        raise ConfigError("the chat template does not print the user's turn: mend it, or use another model")
    turns = [_after(_rendered(render, chat), USER) or "" for chat in ([user, reply], [user, reply, user])]
    seen = _Seen(
        source=source,
        opening=opening,
        before_reply=turns[0].partition(REPLY)[0],
        is_switched=_rendered(render, [user], opened=True) != _rendered(render, [user], opened=True, thinking=True),
    )
    thinking, prefill = next((kind, text) for kind, way in WAYS.items() if (text := way(seen)) is not None)
    blank = seen.before_reply.removeprefix(opening)
    return Template(
        folds_system=SYSTEM not in _rendered(render, [{"role": "system", "content": SYSTEM}, user]),
        thinking=thinking,
        prefill=prefill,
        lead=blank if blank.isspace() else "",
        endings=tuple(ending for turn in turns if (ending := turn.partition(REPLY)[2])),
    )


def _rendered(render: Render, chat: Sequence[Message], opened: bool = False, thinking: bool = False) -> str:
    """The text of `chat`, empty when the template refuses it."""
    try:
        return render(chat, opened, thinking)
    except (TemplateError, TypeError):
        return ""


def _after(text: str, mark: str) -> str | None:
    return text.partition(mark)[2] if mark in text else None


def _open_final_channel(seen: _Seen) -> str | None:
    if FINAL_CHANNEL not in seen.before_reply:
        return None
    return "" if seen.opening.endswith(FINAL_CHANNEL) else FINAL_CHANNEL


def _close_block(seen: _Seen) -> str | None:
    for opens, closes in BLOCKS.items():
        if seen.opening.rfind(opens) > seen.opening.rfind(closes):
            gap = "\n" if seen.opening.endswith("\n") else "\n\n"
            return f"{gap}{closes}\n\n"
    return None


def _leave_switched(seen: _Seen) -> str | None:
    return "" if seen.is_switched else None


def _leave_unclear(seen: _Seen) -> str | None:
    return "" if any(closes in seen.source for closes in BLOCKS.values()) else None


WAYS: dict[Thinking, Callable[[_Seen], str | None]] = {
    Thinking.CHANNEL: _open_final_channel,
    Thinking.OPENED: _close_block,
    Thinking.SWITCHED: _leave_switched,
    Thinking.UNCLEAR: _leave_unclear,
    Thinking.NONE: lambda _: "",
}
"""The prefill of each way to keep thinking off, None where it does not apply; the first that applies counts."""
