"""A load does what it says: nobody asks before their turn, or everybody comes when it is time; refusals are counted apart."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence

import pytest

from benchmarks import load as loads
from benchmarks.load import Load, closed, in_turn, opened, quantile


class Desk:
    """Judges what it is asked in `seconds`; refuses whoever comes while `room` requests are there."""

    def __init__(self, seconds: float, room: int = 1000) -> None:
        self._seconds, self._room = seconds, room
        self.now = self.most = 0
        self.sizes: set[int] = set()

    async def ask(self, texts: Sequence[str]) -> int:
        if self.now >= self._room:
            return 0
        self.now += 1
        self.most = max(self.most, self.now)
        self.sizes.add(len(texts))
        await asyncio.sleep(self._seconds)
        self.now -= 1
        return len(texts)


def texts() -> itertools.repeat[str]:
    return itertools.repeat("a question")


def test_in_turn_one_asks_after_the_other() -> None:
    desk = Desk(0.002)
    load = asyncio.run(in_turn(desk.ask, texts(), 7))
    assert (load.judged, load.refused, len(load.latencies), desk.most) == (7, 0, 7, 1)
    assert load.within(0.5) >= 0.002


def test_callers_wait_for_their_answers() -> None:
    desk = Desk(0.002)
    load = asyncio.run(closed(desk.ask, texts(), 3, 0.05, size=4))
    assert (desk.most, desk.sizes) == (3, {4})
    assert load.judged == 4 * len(load.latencies)
    assert load.pace == pytest.approx(load.judged / load.seconds)


def test_a_caller_who_is_refused_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loads, "REST", 10.0)
    load = asyncio.run(closed(Desk(0.03, room=1).ask, texts(), 2, 0.02))
    assert (load.judged, load.refused) == (1, 1)


def test_texts_that_run_out_are_no_load() -> None:
    with pytest.raises(ValueError, match="no more texts"):
        asyncio.run(closed(Desk(0.0).ask, iter(["only"]), 1, 1.0))


def test_those_who_come_do_not_wait_for_each_other() -> None:
    desk = Desk(0.2)
    load = asyncio.run(opened(desk.ask, texts(), rate=1000, seconds=0.1, seed=1))
    assert desk.most > 50
    assert load.judged == len(load.latencies)
    assert load.refused == 0


def test_who_is_refused_has_no_latency() -> None:
    load = asyncio.run(opened(Desk(0.2, room=5).ask, texts(), rate=1000, seconds=0.1, seed=1))
    assert (load.judged, len(load.latencies)) == (5, 5)
    assert load.refused > 50


def test_the_same_seed_comes_at_the_same_moments() -> None:
    first, second = (asyncio.run(opened(Desk(0.0).ask, texts(), rate=500, seconds=0.1, seed=3)) for _ in range(2))
    assert first.judged == second.judged


def test_quantiles_are_latencies_that_were() -> None:
    load = Load(latencies=[0.3, 0.1, 0.2, 0.4], judged=4, seconds=1.0)
    assert (load.within(0.5), load.within(0.99)) == (0.3, 0.4)
    with pytest.raises(ValueError, match="nothing was judged"):
        quantile([], 0.5)
