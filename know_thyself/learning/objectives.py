"""Objectives: what a causal language model is asked for on a batch, as one loss per example.

An objective is a module around the model, called with tokens `[batch, time]`, last positions `[batch]` and targets
`[batch, ...]`, that returns losses `[batch]`; what its targets are is its own affair. Under ZeRO-3 a weight is there only while
its module runs, so that `lm_head` is called there; elsewhere no more of it is read than is wanted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from know_thyself import prompts
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.learning.examples import Example
from know_thyself.learning.lesson import Lesson
from know_thyself.types import Question


class Objective(torch.nn.Module):
    """Base of all: a causal language model, and the way to its hidden states and logits."""

    def __init__(self, causal: torch.nn.Module) -> None:
        super().__init__()
        self.causal = causal

    def hidden(self, tokens: torch.Tensor) -> torch.Tensor:
        """Hidden states `[batch, time, width]` of right-padded `tokens` `[batch, time]`."""
        states: torch.Tensor = self.causal.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state  # type: ignore[operator]
        return states

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `[..., vocabulary]` of hidden states `[..., width]`, in float32."""
        read: torch.Tensor = self.causal.get_output_embeddings()(hidden)  # type: ignore[operator]
        return read.float()


class VerdictObjective(Objective):
    """Cross-entropy over the verdict words alone, at the one position where the verdict is read.

    Targets: the probability of each verdict word, `[batch, words]`. No other position meets the vocabulary.
    """

    def __init__(self, causal: torch.nn.Module, words: tuple[int, ...]) -> None:
        super().__init__(causal)
        self.words: torch.Tensor
        self.register_buffer("words", torch.tensor(words), persistent=False)

    def forward(self, tokens: torch.Tensor, last: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses `[batch]`."""
        return -(targets * self.read(tokens, last)).sum(dim=-1)

    def read(self, tokens: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """Log-probabilities `[batch, words]` over the verdict words, read after position `last` `[batch]`."""
        hidden = self.hidden(tokens)[torch.arange(len(tokens), device=tokens.device), last]
        return torch.log_softmax(self._words_logits(hidden), dim=-1)

    def _words_logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, words]` of hidden states `[batch, width]`: of a large vocabulary a few rows instead of all."""
        head = self.causal.get_output_embeddings()  # type: ignore[operator]
        if not isinstance(head, torch.nn.Linear) or hasattr(head.weight, "ds_id"):  # DeepSpeed names what it cuts in parts
            return self.logits(hidden)[:, self.words]
        bias = None if head.bias is None else head.bias[self.words]
        return torch.nn.functional.linear(hidden, head.weight[self.words], bias).float()


class TokensObjective(Objective):
    """Next-token cross-entropy, the mean over the taught tokens of an example.

    Targets: the place of the first token that is taught, `[batch]`, at least 1; all from there to the last are. No other
    position meets the vocabulary.
    """

    def forward(self, tokens: torch.Tensor, last: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Losses `[batch]`."""
        places = torch.arange(1, tokens.shape[1], device=tokens.device)
        is_taught = (places >= targets[:, None]) & (places <= last[:, None])
        logits = self.logits(self.hidden(tokens)[:, :-1][is_taught])
        losses = torch.nn.functional.cross_entropy(logits, tokens[:, 1:][is_taught], reduction="none")
        placed = losses.new_zeros(is_taught.shape).masked_scatter(is_taught, losses)
        return placed.sum(dim=-1) / is_taught.sum(dim=-1)


def objective_of(lesson: Lesson, chat: ChatTokenizer, causal: torch.nn.Module) -> Objective:
    """The objective that teaches what `lesson` teaches: answers, or verdicts as `train.loss` says."""
    if lesson.teaches == "knowledge" or lesson.config.loss == "sequence":
        return TokensObjective(causal)
    return VerdictObjective(causal, chat.word_tokens(_words(lesson)))


def example_of(lesson: Lesson, chat: ChatTokenizer, row: Mapping[str, Any]) -> Example:
    """The example that `row`, a question with what is taught of it and a weight, is for that objective."""
    return TEACHING[lesson.teaches](lesson, chat, row)


def _judgment(lesson: Lesson, chat: ChatTokenizer, row: Mapping[str, Any]) -> Example:
    """The judge prompt with a `target` per verdict word.

    For the sequence: prompt, the likeliest verdict's word, end of turn, taught from the second token on as the prototype did.
    """
    prompt = chat.encode(prompts.judge_messages(Question.from_row(row), lesson.style, lesson.mode))
    target = [float(share) for share in row["target"]]
    if lesson.config.loss == "verdict":
        return Example(tokens=prompt, target=target, weight=row["weight"])
    word = _words(lesson)[max(range(len(target)), key=lambda i: target[i])]
    return Example(tokens=[*prompt, *chat.spoken(word), chat.turn_end()], target=1, weight=row["weight"])


def _knowledge(lesson: Lesson, chat: ChatTokenizer, row: Mapping[str, Any]) -> Example:
    """The answer prompt, the `reply` and the end of the turn; the reply and the end are taught."""
    prompt = chat.encode(prompts.answer_messages(Question.from_row(row)))
    return Example(tokens=[*prompt, *chat.spoken(row["reply"]), chat.turn_end()], target=len(prompt), weight=row["weight"])


TEACHING = {"judgment": _judgment, "knowledge": _knowledge}


def _words(lesson: Lesson) -> list[str]:
    return list(prompts.VERDICT_WORDS[lesson.mode].values())
