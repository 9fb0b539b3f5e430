"""Contexts cut to what the model can read: once, at their end, before anything is asked, and never the question itself.

Sampling, training and judging then see the very same text. A context is cut so that both prompts of a run fit: the answer
prompt with the longest answer, and the judge's prompt with its verdict word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from know_thyself import prompts
from know_thyself.engine.protocol import Chat
from know_thyself.types import LabelMode, PromptStyle, Question, Split

if TYPE_CHECKING:
    from know_thyself.engine.chat import ChatTokenizer

BATCH = 512
SEAM = 8
"""Tokens by which a prompt may differ from the sum of its parts, each tokenised for itself."""
LONGEST_WORD = 64
"""Characters within which a cut looks back for the space before a word; scripts without spaces are cut between characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What prompts must fit: `max_model_len` tokens, of which an answer takes up to `max_tokens` and a verdict one."""

    max_model_len: int
    max_tokens: int
    style: PromptStyle
    mode: LabelMode

    def chats(self, question: Question) -> list[tuple[Chat, int]]:
        """The prompts of `question`, each with the tokens it may have."""
        judge = prompts.judge_messages(question, self.style, self.mode)
        return [(prompts.answer_messages(question), self.max_model_len - self.max_tokens), (judge, self.max_model_len - 1)]


def fit_contexts(
    questions: Sequence[Question], chat: ChatTokenizer, room: Room
) -> tuple[tuple[Question, ...], dict[Split, int]]:
    """`questions` in their order with contexts that fit, and how many contexts of each split were cut.

    A question that leaves no room loses its context whole; one that is too long by itself stays so, and its trials will say
    ERROR. Only contexts that could be too long are tokenised: a token is at least a byte.
    """
    spaces = _spaces(chat, room)
    most = min(spaces) - SEAM
    suspects = [i for i, question in enumerate(questions) if question.context and _bytes(question) > most]
    fitted = list(questions)
    for start in range(0, len(suspects), BATCH):
        batch = suspects[start : start + BATCH]
        for i, question in zip(batch, _fit_batch([questions[i] for i in batch], chat, room, min(spaces)), strict=True):
            fitted[i] = question
    cut = Counter(Split(old.split) for old, new in zip(questions, fitted, strict=True) if old.context != new.context)
    return tuple(fitted), dict(cut)


def _bytes(question: Question) -> int:
    return len(question.text.encode()) + len((question.context or "").encode())


def _spaces(chat: ChatTokenizer, room: Room) -> list[int]:
    """The tokens that each prompt leaves for question and context together."""
    shortest = Question(id="", text="?", answers=(), context="?")
    return [limit - len(chat.encode(messages)) + 2 for messages, limit in room.chats(shortest)]


def _fit_batch(questions: Sequence[Question], chat: ChatTokenizer, room: Room, space: int) -> list[Question]:
    """`questions` with contexts that fit; `space` is what the fuller prompt leaves for question and context."""
    if not chat.tokenizer.is_fast:
        return [_fit(question, range(1, len(question.context or "") + 1), None, chat, room) for question in questions]
    asked = chat.tokenizer([question.text for question in questions], add_special_tokens=False, verbose=False)["input_ids"]
    told = chat.tokenizer(
        [question.context or "" for question in questions],
        add_special_tokens=False,
        return_offsets_mapping=True,
        verbose=False,
    )["offset_mapping"]
    fitted = []
    for question, words, offsets in zip(questions, asked, told, strict=True):
        tokens = space - len(words)
        if len(offsets) + SEAM <= tokens:
            fitted.append(question)
        else:
            fitted.append(_fit(question, [end for _, end in offsets], tokens, chat, room))
    return fitted


def _fit(question: Question, ends: Sequence[int], guess: int | None, chat: ChatTokenizer, room: Room) -> Question:
    """`question` with the longest context that ends at one of `ends` and fits.

    With a `guess` of how many of them, which is right but for the seams, it is lowered until the prompts fit; else it is
    found by bisection.
    """
    if guess is not None:
        kept = min(guess, len(ends))
        while kept > 0 and (excess := _excess(_cut(question, ends, kept), chat, room)) > 0:
            kept -= excess
        return _cut(question, ends, kept)
    fits, fails = 0, len(ends) + 1
    while fails - fits > 1:
        middle = (fits + fails) // 2
        if _excess(_cut(question, ends, middle), chat, room) > 0:
            fails = middle
        else:
            fits = middle
    return _cut(question, ends, fits)


def _excess(question: Question, chat: ChatTokenizer, room: Room) -> int:
    """The tokens by which the prompts of `question` are too long."""
    return max(len(chat.encode(messages)) - limit for messages, limit in room.chats(question))


def _cut(question: Question, ends: Sequence[int], kept: int) -> Question:
    """`question` with the first `kept` pieces of its context, up to the last whole word."""
    context = question.context or ""
    end = ends[kept - 1] if kept > 0 else 0
    if kept >= len(ends) or end >= len(context):
        return question
    if end and context[end - 1].isalnum() and context[end].isalnum():
        end = next((i for i in range(end - 1, max(0, end - LONGEST_WORD), -1) if context[i].isspace()), end)
    return replace(question, context=context[:end].rstrip() or None)
