"""The pools of a study: whole groups, in one pool each, and nothing that is held out is seen by a judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from know_thyself.data.pools import HELD_OUT, Pools, cut_pools
from know_thyself.data.splits import Questions
from know_thyself.errors import DataError
from know_thyself.types import Pool, Question, Split

PER_GROUP = 3


def questions(groups: int) -> Questions:
    """`groups` groups of three questions in each split."""
    made = [
        Question(id=f"{split}-{g}-{i}", text=f"{split} {g} {i}?", answers=("x",), group=f"{split}-{g}", split=str(split))
        for split in Split
        for g in range(groups)
        for i in range(PER_GROUP)
    ]
    return Questions(questions=tuple(made), dropped={"malformed line": 2})


def groups_of(found: Sequence[Question]) -> set[str]:
    return {question.group for question in found}


def test_every_group_is_in_one_pool_and_whole() -> None:
    pools = cut_pools(questions(40), 0.4, seed=0)
    seen = [groups_of(found) for found in pools.of.values()]
    assert sum(map(len, seen)) == len(set().union(*seen))
    sizes = {pool: len(found) for pool, found in pools.of.items()}
    assert sizes == {
        Pool.JUDGED_TAUGHT: 8 * PER_GROUP,
        Pool.TAUGHT_HELD_OUT: 8 * PER_GROUP,
        Pool.JUDGED_NOT_TAUGHT: 40 * PER_GROUP,
        Pool.NEVER_SEEN: 40 * PER_GROUP,
    }


def test_no_split_of_a_judge_holds_what_is_held_out() -> None:
    before = questions(40)
    pools = cut_pools(before, 0.4, seed=0)
    held_out = groups_of(pools.of[Pool.TAUGHT_HELD_OUT])
    assert all(not groups_of(pools.questions.of(split)) & held_out for split in Split)
    assert {question.split for question in pools.of[Pool.TAUGHT_HELD_OUT]} == {HELD_OUT}
    assert groups_of(pools.of[Pool.JUDGED_TAUGHT]) <= groups_of(pools.questions.of(Split.TRAIN))
    assert [replace(q, split="") for q in pools.questions.questions] == [replace(q, split="") for q in before.questions]
    assert pools.questions.dropped == before.dropped


def test_the_seed_draws_them() -> None:
    def taught(seed: int) -> Pools:
        return cut_pools(questions(40), 0.4, seed)

    assert taught(0).of == taught(0).of
    assert groups_of(taught(0).taught) != groups_of(taught(1).taught)


@pytest.mark.parametrize(("share", "drawn"), [(0.1, 1), (0.99, 10)])
def test_a_share_that_leaves_one_side_empty_is_refused(share: float, drawn: int) -> None:
    with pytest.raises(DataError, match=rf"study.taught={share} of 10 groups of training questions are {drawn}: two"):
        cut_pools(questions(10), share, seed=0)
