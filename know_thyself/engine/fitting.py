"""Contexts cut to what the model can read: once, at their end, before anything is asked, and never the question itself.

Sampling, training, judging and serving then see the very same text. A context is cut so that both prompts of a run fit: the
answer prompt with the longest answer, and the judge's prompt with its verdict word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from know_thyself import prompts
from know_thyself.engine.protocol import Chat
from know_thyself.prompts import Message
from know_thyself.types import LabelMode, PromptStyle, Question, Split

if TYPE_CHECKING:
    from tokenizers import Encoding

    from know_thyself.engine.chat import ChatTokenizer

BATCH = 512
SEAM = 8
"""Tokens by which a prompt may differ from the sum of its parts, each tokenised for itself."""
LONGEST_WORD = 64
"""Characters within which a cut looks back for the space before a word; scripts without spaces are cut between characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The context window that prompts must fit: `max_model_len` tokens.

    Of these an answer takes up to `max_tokens`, and a verdict one. The turns of `history` stand before the question in every
    prompt; they are never cut.
    """

    max_model_len: int
    max_tokens: int
    style: PromptStyle
    mode: LabelMode
    history: tuple[Message, ...] = ()

    def answer_chat(self, question: Question) -> tuple[Chat, int]:
        """The prompt that has `question` answered, and the tokens it may have."""
        return prompts.answer_messages(question, self.history), self.max_model_len - self.max_tokens

    def judge_chat(self, question: Question) -> tuple[Chat, int]:
        """The prompt that has `question` judged, and the tokens it may have."""
        return prompts.judge_messages(question, self.style, self.mode, self.history), self.max_model_len - 1

    def chats(self, question: Question) -> list[tuple[Chat, int]]:
        """Both."""
        return [self.answer_chat(question), self.judge_chat(question)]


def fit_contexts(
    questions: Sequence[Question], chat: ChatTokenizer, window: Window
) -> tuple[tuple[Question, ...], dict[Split, int]]:
    """`questions` in their order with contexts that fit, and how many contexts of each split were cut.

    A question that leaves no room loses its context whole; one that is too long by itself stays so, and its trials will say
    ERROR. Only contexts that could be too long are tokenised: a token is at least a byte.
    """
    spaces = _spaces(chat, window)
    fullest = min(spaces)
    tight = [i for i, space in enumerate(spaces) if space <= fullest + SEAM]
    suspects = [i for i, question in enumerate(questions) if question.context and _bytes(question) > fullest - SEAM]
    fitted = list(questions)
    for start in range(0, len(suspects), BATCH):
        batch = suspects[start : start + BATCH]
        fitting = _Fitting(chat=chat, window=window, space=fullest, tight=tight)
        for i, question in zip(batch, fitting.fit([questions[i] for i in batch]), strict=True):
            fitted[i] = question
    cut = Counter(Split(old.split) for old, new in zip(questions, fitted, strict=True) if old.context != new.context)
    return tuple(fitted), dict(cut)


def _bytes(question: Question) -> int:
    return len(question.text.encode()) + len((question.context or "").encode())


def _spaces(chat: ChatTokenizer, window: Window) -> list[int]:
    """The tokens that each prompt leaves for question and context together."""
    shortest = Question(id="", text="?", answers=(), context="?")
    return [limit - len(chat.encode(messages)) + 2 for messages, limit in window.chats(shortest)]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fitting:
    """How contexts are fitted: `space` is what the fullest prompt leaves for question and context together.

    `tight` are the prompts that have to be looked at: one with `SEAM` tokens more to spare fits whenever the fullest does.
    """

    chat: ChatTokenizer
    window: Window
    space: int
    tight: Sequence[int]

    def fit(self, questions: Sequence[Question]) -> list[Question]:
        """`questions`, each with the longest context that fits."""
        without = [self._has_no_ends(question) for question in questions]
        searched = iter(self._search([question for question, is_so in zip(questions, without, strict=True) if is_so]))
        counted = [question for question, is_so in zip(questions, without, strict=True) if not is_so]
        others = iter(self._fit_by_tokens(counted) if counted else [])
        return [next(searched if is_so else others) for is_so in without]

    def _has_no_ends(self, question: Question) -> bool:
        """Whether the tokenizer cannot tell where the tokens end that a prompt makes of the context."""
        return not self.chat.tokenizer.is_fast or self.chat.holds_mark(f"{question.text} {question.context}")

    def _fit_by_tokens(self, questions: Sequence[Question]) -> list[Question]:
        asked = self._tokenised([question.text for question in questions])
        told = self._tokenised([question.context or "" for question in questions])
        fitted = list(questions)
        ends, kept = {}, {}
        for i, (words, pieces) in enumerate(zip(asked, told, strict=True)):
            if len(words) + len(pieces) + SEAM > self.space:
                ends[i] = [end for _, end in pieces.offsets]
                kept[i] = min(self.space - len(words), len(pieces))
        while kept:
            for i in kept:
                fitted[i] = _cut(questions[i], ends[i], kept[i])
            excess = self._excess([fitted[i] for i in kept])
            kept = {i: kept[i] - over for i, over in zip(kept, excess, strict=True) if over > 0 and kept[i] > 0}
        return fitted

    def _tokenised(self, texts: list[str]) -> list[Encoding]:
        encodings = self.chat.tokenizer(texts, add_special_tokens=False, verbose=False).encodings
        return list(encodings or [])

    def _search(self, questions: Sequence[Question]) -> list[Question]:
        """`questions` fitted without knowing where their tokens end: to the character, all at once.

        Each is tried at twice what fitted last, then bisected, so that no prompt is ever much longer than what fits.
        """
        ends = [range(1, len(question.context or "") + 1) for question in questions]
        fits, fails = [0] * len(questions), [len(own) + 1 for own in ends]
        while left := [i for i in range(len(questions)) if fails[i] - fits[i] > 1]:
            tried = {i: min(max(2 * fits[i], self.space, 1), (fits[i] + fails[i]) // 2) for i in left}
            excess = self._excess([_cut(questions[i], ends[i], kept) for i, kept in tried.items()])
            for (i, kept), over in zip(tried.items(), excess, strict=True):
                (fails if over > 0 else fits)[i] = kept
        return [_cut(question, own, kept) for question, own, kept in zip(questions, ends, fits, strict=True)]

    def _excess(self, questions: Sequence[Question]) -> list[int]:
        """The tokens by which the prompts of each question are too long; none or fewer when they fit."""
        asked = [[self.window.chats(question)[i] for i in self.tight] for question in questions]
        lengths = iter(map(len, self.chat.encode_all([chat for prompts in asked for chat, _ in prompts])))
        return [max(next(lengths) - limit for _, limit in prompts) for prompts in asked]


def _cut(question: Question, ends: Sequence[int], kept: int) -> Question:
    """`question` with the first `kept` pieces of its context, up to the last whole word."""
    context = question.context or ""
    end = ends[kept - 1] if kept > 0 else 0
    if kept >= len(ends) or end >= len(context):
        return question
    if end and context[end - 1].isalnum() and context[end].isalnum():
        end = next((i for i in range(end - 1, max(0, end - LONGEST_WORD), -1) if context[i].isspace()), end)
    return replace(question, context=context[:end].rstrip() or None)
