"""What a batch is asked for: the loss of each example."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from know_thyself.learning.examples import Example, Examples
from know_thyself.learning.objectives import TokensObjective, VerdictObjective
from know_thyself.learning.schedule import FILL

VOCABULARY = 12


class Toy(torch.nn.Module):
    """A model whose logits after a token are that token's row of a table."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(VOCABULARY, 6)
        self.head = torch.nn.Linear(6, VOCABULARY)

    def get_decoder(self) -> object:
        return lambda input_ids, use_cache: SimpleNamespace(last_hidden_state=self.table(input_ids))

    def get_output_embeddings(self) -> torch.nn.Module:
        return self.head

    def after(self, token: int) -> torch.Tensor:
        logits: torch.Tensor = self.head(self.table(torch.tensor(token)))
        return logits.detach()


def batch_of(*examples: Example) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    tokens, last, targets, _ = Examples(examples).batch(np.arange(len(examples)))
    return tokens, last, targets


@pytest.mark.parametrize(
    ("words", "targets"),
    [((7, 9), ([0.75, 0.25], [0.0, 1.0])), ((9, 2, 7), ([0.5, 0.3, 0.2], [0.0, 1.0, 0.0]))],
    ids=["binary", "uncertainty"],
)
def test_the_verdict_is_read_at_each_examples_own_end_over_the_words_alone(
    words: tuple[int, ...], targets: tuple[list[float], list[float]]
) -> None:
    toy = Toy()
    examples = [
        Example(tokens=tokens, target=target, weight=1.0) for tokens, target in zip(([1, 2, 3], [4]), targets, strict=True)
    ]
    losses = VerdictObjective(toy, words)(*batch_of(*examples)).tolist()
    for loss, token, target in zip(losses, (3, 4), targets, strict=True):
        spoken = toy.after(token)[list(words)].log_softmax(-1)
        assert loss == pytest.approx(float(-(torch.tensor(target) * spoken).sum()), abs=1e-6)


@pytest.mark.parametrize("first", [1, 2])
def test_tokens_are_taught_from_the_first_that_is_told_to_the_last_and_padding_never(first: int) -> None:
    toy = Toy()
    tokens = [1, 5, 2, 8]
    alone = Example(tokens=tokens, target=first, weight=1.0)
    longer = Example(tokens=[3] * 9, target=1, weight=1.0)
    losses = TokensObjective(toy)(*batch_of(alone, longer)).tolist()
    each = [-toy.after(tokens[i - 1]).log_softmax(-1)[tokens[i]] for i in range(first, len(tokens))]
    assert losses[0] == pytest.approx(float(torch.stack(each).mean()), abs=1e-6)


def test_a_place_without_an_example_weighs_nothing() -> None:
    examples = Examples([Example(tokens=[1], target=1, weight=2.0), Example(tokens=[2, 3], target=1, weight=3.0)])
    assert examples.lengths == [1, 2]
    assert examples.weights_of(np.array([0, 1, FILL])).tolist() == [2.0, 3.0, 0.0]
