"""How much a key may ask: no minute holds more, others are unharmed, replicas share a store, and lists count each question."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from know_thyself.testing import FakeJudge
from know_thyself.wire import MAX_INPUTS
from serve.auth import Keys, Scope
from serve.judging import BusyError
from serve.limits import Limiter, LocalStore
from serve.policy import Limits, read_policy
from serve.service import Backing
from tests.serve.apps import SURE, bearer, key, policy_of, post, served
from tests.serve.test_errors import told

TWENTY = Limits(requests_per_minute=20)
TWO = Keys(keys=(key("one", Scope.JUDGE), key("other", Scope.JUDGE)))


def test_a_key_gets_what_it_may_have_and_no_more_and_others_are_unharmed() -> None:
    with served(policy=policy_of(limits=TWENTY), keys=TWO) as client, ThreadPoolExecutor(8) as callers:
        answers = list(callers.map(lambda _: post(client, {"input": SURE}, **bearer("one")), range(60)))
        others = [post(client, {"input": SURE}, **bearer("other")).status_code for _ in range(20)]
    assert Counter(answer.status_code for answer in answers) == {200: 20, 429: 40}
    assert others == [200] * 20
    for answer in answers:
        if answer.status_code == 429:
            assert told(answer) == (429, "rate_limit_error", "rate_limit_exceeded")
            assert 50 <= int(answer.headers["retry-after"]) <= 60


def test_replicas_that_share_a_store_share_the_limit() -> None:
    store = LocalStore()
    replicas = [served(policy=policy_of(limits=TWENTY), keys=TWO, backing=Backing(store=store)) for _ in range(3)]
    answers = [post(replicas[i % 3], {"input": SURE}, **bearer("one")).status_code for i in range(33)]
    assert Counter(answers) == {200: 20, 429: 13}


def test_a_list_counts_each_of_its_questions_and_is_taken_whole_or_not_at_all() -> None:
    client = served(policy=policy_of(limits=Limits(questions_per_minute=200)), keys=TWO)

    def ask(number: int) -> int:
        return post(client, {"input": [SURE] * number}, **bearer("one")).status_code

    assert [ask(128), ask(100), ask(72), ask(1)] == [200, 429, 200, 429]
    assert post(client, {"input": ["", SURE]}, **bearer("other")).status_code == 200


class Busy(FakeJudge):
    """A judge that has no room as long as it is `full`."""

    full = True

    def check_room(self, number: int) -> None:
        if self.full:
            raise BusyError(1)


def test_who_is_turned_away_for_want_of_room_has_asked_nothing() -> None:
    judge = Busy()
    client = served(judge, policy=policy_of(limits=Limits(questions_per_minute=128)), keys=TWO)
    assert {told(post(client, {"input": [SURE] * 64}, **bearer("one")))[2] for _ in range(3)} == {"judge_busy"}
    judge.full = False
    assert post(client, {"input": [SURE] * 128}, **bearer("one")).status_code == 200


def test_a_key_has_its_own_limits_where_it_has_any() -> None:
    free = key("free", Scope.JUDGE, limits=Limits(requests_per_minute=3))
    client = served(policy=policy_of(limits=Limits(requests_per_minute=1)), keys=Keys(keys=(*TWO.keys, free)))
    assert [post(client, {"input": SURE}, **bearer("free")).status_code for _ in range(4)] == [200, 200, 200, 429]
    assert [post(client, {"input": SURE}, **bearer("one")).status_code for _ in range(2)] == [200, 429]


def test_who_is_over_the_limit_is_told_before_the_body_is_read() -> None:
    client = served(policy=policy_of(limits=Limits(requests_per_minute=1)), keys=TWO)
    assert [post(client, body, **bearer("one")).status_code for body in ({"input": 1}, {"input": 1})] == [422, 429]


def test_a_key_that_is_not_let_in_uses_nothing_up() -> None:
    client = served(policy=policy_of(limits=Limits(requests_per_minute=1)), keys=TWO)
    assert [client.get("/metrics", headers=bearer("one")).status_code for _ in range(2)] == [403, 403]
    assert post(client, {"input": SURE}, **bearer("one")).status_code == 200


def test_without_keys_nobody_is_held_to_a_limit() -> None:
    client = served(policy=policy_of(limits=Limits(requests_per_minute=1)))
    assert [post(client, {"input": SURE}).status_code for _ in range(3)] == [200] * 3


def test_the_shipped_policy_has_limits_and_none_that_a_list_could_not_fit() -> None:
    limits = read_policy().limits
    assert limits.requests_per_minute is not None
    assert limits.questions_per_minute is not None
    with pytest.raises(ValidationError):
        Limits(questions_per_minute=MAX_INPUTS - 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, which tests set."""
    now = [1_795_600_000.0]
    monkeypatch.setattr(time, "time", lambda: now[0])
    return now


STEPS = st.lists(st.tuples(st.sampled_from([0.0, 0.5, 7.0, 29.0, 59.0, 61.0]), st.integers(1, 4)), min_size=1, max_size=60)


@given(steps=STEPS)
def test_no_sixty_seconds_hold_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = [1_795_600_000.0]
        patch.setattr(time, "time", lambda: now[0])
        store, taken = LocalStore(), list[float]()
        for pause, cost in steps:
            now[0] += pause
            if asyncio.run(store.take("one", 10, cost)) == 0.0:
                taken += [now[0]] * cost
    for start in taken:
        assert sum(start <= moment < start + 60 for moment in taken) <= 10


@pytest.mark.parametrize(("cost", "told"), [(1, 40), (4, 46), (10, 58)])
def test_who_comes_back_when_told_finds_room(clock: list[float], cost: int, told: float) -> None:
    store = LocalStore()
    for _ in range(10):
        assert asyncio.run(store.take("one", 10, 1)) == 0.0
        clock[0] += 2
    wait = asyncio.run(store.take("one", 10, cost))
    assert wait == pytest.approx(told)
    clock[0] += wait - 1
    assert asyncio.run(store.take("one", 10, cost)) > 0
    clock[0] += 1.01
    assert asyncio.run(store.take("one", 10, cost)) == 0.0


@given(steps=STEPS, cost=st.integers(1, 10))
def test_no_wait_that_is_told_is_too_short_or_too_long(steps: list[tuple[float, int]], cost: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        now = [1_795_600_000.0]
        patch.setattr(time, "time", lambda: now[0])
        store = LocalStore()
        for pause, taken in steps:
            now[0] += pause
            asyncio.run(store.take("one", 10, taken))
        if wait := asyncio.run(store.take("one", 10, cost)):
            now[0] += wait - 0.01
            assert asyncio.run(store.take("one", 10, cost)) == pytest.approx(0.01, abs=1e-3)
            now[0] += 0.02
            assert asyncio.run(store.take("one", 10, cost)) == 0.0


def test_nothing_asked_costs_nothing() -> None:
    limiter = Limiter(usual=Limits(questions_per_minute=128))
    asyncio.run(limiter.take(TWO.keys[0], "questions", 128))
    asyncio.run(limiter.take(TWO.keys[0], "questions", 0))
