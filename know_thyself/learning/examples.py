"""Examples as tensors: tokens, what each teaches and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from know_thyself.engine.chat import ChatTokenizer
from know_thyself.errors import ConfigError
from know_thyself.learning.schedule import FILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example: the tokens shown, what its objective is to make of them, and its weight."""

    tokens: list[int]
    target: list[float] | int
    """What the objective asks for: see each of `know_thyself.learning.objectives`."""
    weight: float


class Examples:
    """Examples of one objective, as batches draw them."""

    def __init__(self, examples: Sequence[Example]) -> None:
        self._tokens = [torch.tensor(example.tokens) for example in examples]
        self._targets = torch.tensor([example.target for example in examples])
        self._weights = torch.tensor([example.weight for example in examples], dtype=torch.float32)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each example."""
        return [len(tokens) for tokens in self._tokens]

    def batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Right-padded tokens `[batch, time]`, last positions `[batch]`, targets `[batch, ...]` and weights `[batch]`."""
        chosen = [self._tokens[i] for i in indices]
        last = torch.tensor([len(tokens) - 1 for tokens in chosen])
        padded = torch.nn.utils.rnn.pad_sequence(chosen, batch_first=True)
        return padded, last, self._targets[indices], self.weights_of(indices)

    def weights_of(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The weights `[batch]` of the examples at `indices`; a `FILL` has weight 0."""
        return self._weights[indices] * torch.from_numpy(indices != FILL)


def spoken(chat: ChatTokenizer, word: str) -> list[int]:
    """The tokens of `word` where the assistant's turn has just been opened.

    Raises `ConfigError` when the tokenizer melts the two together.
    """
    opening = chat.encode([{"role": "user", "content": "?"}])
    text = str(chat.tokenizer.decode(opening))
    both = list(chat.tokenizer(text + word, add_special_tokens=False)["input_ids"])
    if both[: len(opening)] != opening:
        raise ConfigError(f"the tokenizer melts {word!r} into the chat template: train.loss=sequence cannot teach it")
    return both[len(opening) :]


def turn_end(chat: ChatTokenizer) -> int:
    """The token with which the assistant ends its turn: the first special one after a reply in the chat template.

    Raises `ConfigError` when the template sets none.
    """
    reply = "know-thyself"
    turns = [{"role": "user", "content": "?"}, {"role": "assistant", "content": reply}]
    text = str(chat.tokenizer.apply_chat_template(turns, tokenize=False))
    after = list(chat.tokenizer(text.rpartition(reply)[2], add_special_tokens=False)["input_ids"])
    special = set(chat.tokenizer.all_special_ids) | set(chat.tokenizer.added_tokens_decoder)
    end = next((token for token in after if token in special), None)
    if end is None:
        raise ConfigError("the chat template ends a reply with no special token: use --train.loss verdict")
    return int(end)
