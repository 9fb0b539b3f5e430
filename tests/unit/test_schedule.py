"""Which examples each step sees, and how fast it learns."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from know_thyself.config import TrainConfig
from know_thyself.learning.schedule import FILL, order, rate, share_of
from know_thyself.learning.zero import batch_settings

LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=90)


@given(lengths=LENGTHS, pool=st.integers(1, 5), passes=st.integers(1, 3))
def test_every_pass_shows_every_example_once(lengths: list[int], pool: int, passes: int) -> None:
    config = TrainConfig(batch_size=8, length_pool=pool, passes=passes)
    batches = list(order(lengths, config, seed=3, epoch=1))
    shown = np.concatenate(batches)
    assert {len(batch) for batch in batches} == {8}
    assert sorted(shown[shown != FILL]) == sorted(list(range(len(lengths))) * passes)
    per_pass = len(batches) // passes
    for first in range(0, len(batches), per_pass):
        part = np.concatenate(batches[first : first + per_pass])
        assert sorted(part[part != FILL]) == list(range(len(lengths)))


@given(lengths=LENGTHS, workers=st.integers(1, 8), micro=st.integers(1, 8))
def test_the_order_knows_nothing_of_the_workers_and_they_share_each_batch(lengths: list[int], workers: int, micro: int) -> None:
    alone = list(order(lengths, TrainConfig(batch_size=8, length_pool=2), seed=3, epoch=1))
    config = TrainConfig(batch_size=8, length_pool=2, workers="1..8", micro_batch_size=micro)
    together = list(order(lengths, config, seed=3, epoch=1))
    assert [list(batch) for batch in alone] == [list(batch) for batch in together]
    told = batch_settings(config, workers)
    passes, size = told["gradient_accumulation_steps"], told["train_micro_batch_size_per_gpu"]
    assert size <= micro
    assert told["train_batch_size"] == passes * size * workers < 8 + passes * workers
    for batch in together:
        shares = [share_of(batch, rank, workers, passes * size) for rank in range(workers)]
        assert {len(share) for share in shares} == {passes * size}
        shown = np.concatenate(shares)
        assert sorted(shown[shown != FILL]) == sorted(batch[batch != FILL])


def test_seed_epoch_and_pass_each_change_the_order() -> None:
    lengths, config = [5] * 40, TrainConfig(batch_size=8, passes=2)
    orders = [np.concatenate(list(order(lengths, config, seed, epoch))) for seed, epoch in [(0, 1), (0, 2), (1, 1)]]
    passes = [part for whole in orders for part in np.split(whole, 2)]
    assert not any(np.array_equal(a, b) for a, b in itertools.combinations(passes, 2))


def test_pools_save_padding_and_still_mix_short_and_long() -> None:
    lengths = [int(length) for length in np.random.default_rng(0).integers(10, 500, 640)]

    def padded(pool: int) -> tuple[int, list[int]]:
        batches = list(order(lengths, TrainConfig(batch_size=8, length_pool=pool), seed=3, epoch=1))
        longest = [max(lengths[i] for i in batch if i != FILL) for batch in batches]
        return sum(8 * length for length in longest) - sum(lengths), longest

    loose, _ = padded(1)
    tight, longest = padded(10)
    assert tight < loose / 4
    rises = sum(a < b for a, b in itertools.pairwise(longest))
    assert 0.3 < rises / len(longest) < 0.7, "batches must not come sorted by length"


@pytest.mark.parametrize("decay", ["linear", "cosine", "constant"])
def test_the_rate_warms_up_and_decays_as_asked(decay: str) -> None:
    config = TrainConfig.model_validate({"learning_rate": 2.0, "warmup": 0.2, "final_rate": 0.1, "decay": decay})
    assert rate(0.0, config) == 0.0
    assert rate(0.1, config) == pytest.approx(1.0)
    assert rate(0.2, config) == pytest.approx(2.0)
    middle = {"linear": 1.1, "cosine": 1.1, "constant": 2.0}[decay]
    assert rate(0.6, config) == pytest.approx(middle)
    assert rate(1.0, config) == pytest.approx(2.0 if decay == "constant" else 0.2)
    quarter = {"linear": 1.55, "cosine": 0.2 + 1.8 * 0.5 * (1 + 0.5**0.5), "constant": 2.0}[decay]
    assert rate(0.4, config) == pytest.approx(quarter)
