"""What the service asks of a judge, and how inputs become questions.

A chat is judged whole: its last turn is the question, and the turns before it stay turns (`know_thyself.prompts` says why).
What is wrong with one input is a `Refusal` in its place; the judge is asked about the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import EngineError
from know_thyself.judge import JudgeCard
from know_thyself.prompts import Message
from know_thyself.wire import MAX_CHARACTERS, Item


class BusyError(EngineError):
    """More questions wait than a judge takes on; `retry_after` seconds from now there may be room."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


class Judge(Protocol):
    """A judge as the service sees it. Many may ask at once."""

    @property
    def card(self) -> JudgeCard:
        """What the judge is bound to, and what it promises."""

    @property
    def fault(self) -> str | None:
        """Why it cannot judge at present; None when it is ready."""

    @property
    def waiting(self) -> int:
        """The questions that wait for it."""

    def check_room(self, number: int) -> None:
        """Raise `BusyError` where so many questions would be too many now, as far as that is known here."""

    async def judge(self, asked: Sequence[Asked]) -> Sequence[Opinion | Refusal]:
        """An opinion on each of `asked` in their order, or why it can have none.

        Raises `BusyError` when too many wait already, `EngineError` when the judge fails.
        """


async def consult(judge: Judge, questions: Sequence[Asked | Refusal]) -> list[Opinion | Refusal]:
    """What `judge` says of each of `questions` that can be asked, in order among the refusals."""
    asked = [one for one in questions if isinstance(one, Asked)]
    said = await judge.judge(asked) if asked else []
    check_said(asked, said)
    opinions = iter(said)
    return [next(opinions) if isinstance(one, Asked) else one for one in questions]


def check_said(asked: Sequence[Asked], said: Sequence[Opinion | Refusal]) -> None:
    """Raise `EngineError` unless something was `said` of each of `asked`: else answers would go to the wrong questions."""
    if len(said) != len(asked):
        raise EngineError(f"the judge said {len(said)} things about {len(asked)} questions")


def to_question(item: Item, context: str | None) -> Asked | Refusal:
    """The question that `item` asks, with its context; texts lose the blanks around them, a blank context counts as none."""
    if isinstance(item, str):
        asked = Asked(text=item.strip(), context=(context or "").strip() or None)
    elif not item or item[-1].role != "user":
        return Refusal(fault="invalid_chat", reason="the chat does not end with a turn of the user: there is nothing to judge")
    else:
        turns = tuple[Message, ...](
            {"role": "system" if turn.role == "developer" else turn.role, "content": turn.text} for turn in item[:-1]
        )
        asked = Asked(text=item[-1].text.strip(), context=(context or "").strip() or None, history=turns)
    return _fault_of(asked) or asked


def _fault_of(asked: Asked) -> Refusal | None:
    """What is wrong with `asked` as far as its characters tell: nothing longer than they may be is made into tokens."""
    if not asked.text:
        return Refusal(fault="empty_input", reason="the input is empty: ask something")
    if asked.num_characters > MAX_CHARACTERS:
        told = f"the input has {asked.num_characters} characters with its context, and may have {MAX_CHARACTERS}: shorten it"
        return Refusal(fault="input_too_long", reason=told)
    if not all(map(_is_text, (asked.text, asked.context or "", *(turn["content"] for turn in asked.history)))):
        return Refusal(fault="invalid_text", reason="the input holds half a character (a lone surrogate): mend its encoding")
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
