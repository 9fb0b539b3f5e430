"""The simulated fleet: what it should come to by hand, and by the formula for what preemptions waste."""

from __future__ import annotations

import dataclasses

import pytest

from benchmarks.fleet import HOUR, Fleet, simulate

FLEET = Fleet(engines=4, question=0.01, start=30.0, block_rows=100)


def test_undisturbed_engines_share_the_blocks() -> None:
    found = simulate(FLEET, 4_000)
    assert found.seconds == pytest.approx(30.0 + 10 * 1.0)
    assert found.held == pytest.approx(4 * 40.0)
    assert found.useful == pytest.approx(40.0)
    assert (found.redone, found.preempted) == (0.0, 0)


def test_a_slow_driver_is_what_all_wait_for() -> None:
    fast, slow = (simulate(dataclasses.replace(FLEET, driver=driver), 100_000) for driver in (0.1, 0.5))
    assert fast.seconds == pytest.approx(30.0 + 250.0, rel=0.01)  # four blocks a second come, ten could be taken
    assert slow.seconds == pytest.approx(30.0 + 1000 * 0.5, rel=0.01)


def test_preemptions_waste_a_start_and_half_a_block_each() -> None:
    rate = 6.0
    fleet = Fleet(engines=16, question=0.2, start=60.0, block_rows=250, preemptions=rate)
    found = simulate(fleet, 1_000_000)
    per_hour = found.preempted / (found.held / HOUR)
    assert per_hour == pytest.approx(rate, rel=0.05)
    # Of a block of 50 s, a preemption within it hits on average just before its middle.
    assert found.redone / found.preempted == pytest.approx(125 * (1 - 60 / 600), rel=0.1)
    assert found.waste == pytest.approx(rate * (60.0 + 25.0) / HOUR, rel=0.1)
    assert found.held - found.useful == pytest.approx(found.held * found.waste)


def test_no_question_is_lost_and_the_same_seed_is_the_same_run() -> None:
    fleet = dataclasses.replace(FLEET, preemptions=20.0, replacement=90.0)
    assert simulate(fleet, 40_000, seed=3) == simulate(fleet, 40_000, seed=3)
    assert simulate(fleet, 40_000, seed=3).useful == pytest.approx(400.0)
    assert simulate(fleet, 40_000, seed=3) != simulate(fleet, 40_000, seed=4)
