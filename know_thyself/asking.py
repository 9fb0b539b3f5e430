"""What is asked of a judge or an answerer from outside, and what they say: the records between them and their doors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from know_thyself.prompts import Message
from know_thyself.types import Finish, Verdict

Fault = Literal["empty_input", "input_too_long", "invalid_chat", "invalid_text"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A question as a user puts it: no accepted answers are known.

    `history` holds the turns of a chat that came before it, system texts included, and is empty for a bare question.
    """

    text: str
    context: str | None = None
    history: tuple[Message, ...] = ()

    @property
    def num_characters(self) -> int:
        """The length of all that the judge would have to read."""
        return len(self.text) + len(self.context or "") + sum(len(turn["content"]) for turn in self.history)


@dataclass(frozen=True, slots=True, kw_only=True)
class Opinion:
    """What the judge says of one question. `confidence` is P(`event`) as read, not calibrated.

    `p_correct` is the accuracy to expect, None of a judge that was not calibrated. `context_cut` tells that the context was
    too long for the model and lost its end; `num_tokens` counts what the judge read.
    """

    question: str
    verdict: Verdict
    confidence: float
    event: str
    p_correct: float | None
    context_cut: bool
    num_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why one question has no opinion, while those beside it have theirs.

    `reason` holds the remedy, and no text of the question.
    """

    fault: Fault
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How an answer is drawn: in at most `max_tokens`, None for as many as the model has, and up to any text of `stop`."""

    max_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is answered to one question, why it ended, and the tokens that were read and generated for it."""

    text: str
    finish: Finish
    num_prompt_tokens: int
    num_tokens: int
