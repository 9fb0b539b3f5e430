"""Examples as tensors: tokens, what each teaches and how much it counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

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
