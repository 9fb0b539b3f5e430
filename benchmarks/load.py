"""Load upon something that judges: callers who wait for their answer, and callers who come whether or not it keeps up.

A way to ask is a coroutine that takes texts and returns how many of them were judged: 0 where the request was refused.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from statistics import median

import aiohttp

Ask = Callable[[Sequence[str]], Awaitable[int]]
REFUSED = 429
REST = 1.0
"""Seconds that a caller rests who was refused, as the service tells it to."""


@dataclass(slots=True, kw_only=True)
class Load:
    """What became of a load: seconds of each request that was judged, how many were refused, over so many seconds."""

    latencies: list[float] = field(default_factory=list)
    judged: int = 0
    refused: int = 0
    seconds: float = 0.0

    @property
    def pace(self) -> float:
        """Questions judged per second."""
        return self.judged / self.seconds

    @property
    def kept(self) -> float:
        """The share of the requests that were judged."""
        return len(self.latencies) / (len(self.latencies) + self.refused)

    def within(self, share: float) -> float:
        """The seconds within which this `share` of the judged requests had their answer."""
        return quantile(self.latencies, share)


def quantile(seconds: Sequence[float], share: float) -> float:
    """The least of `seconds` that this `share` of them does not exceed. Raises `ValueError` of none."""
    if not seconds:
        raise ValueError("nothing was judged: no latency can be told")
    return sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))]


async def in_turn(ask: Ask, texts: Iterator[str], requests: int) -> Load:
    """`requests` one after the other: the load is as light as can be."""
    load, began = Load(), time.perf_counter()
    for _ in range(requests):
        await _note(load, ask, [next(texts)])
    load.seconds = time.perf_counter() - began
    return load


async def closed(ask: Ask, texts: Iterator[str], callers: int, seconds: float, size: int = 1) -> Load:
    """`callers` who each ask about `size` texts, wait for the answer, and ask again: never more wait than that.

    Raises `ValueError` when `texts` run out.
    """
    load, began = Load(), time.perf_counter()
    end = began + seconds

    async def caller() -> None:
        while time.perf_counter() < end:
            asked = list(itertools.islice(texts, size))
            if len(asked) < size:
                raise ValueError("there are no more texts to ask: give more, or ask for a shorter time")
            if not await _note(load, ask, asked):
                await asyncio.sleep(min(REST, max(0.0, end - time.perf_counter())))

    await asyncio.gather(*(caller() for _ in range(callers)))
    load.seconds = time.perf_counter() - began
    return load


async def opened(ask: Ask, texts: Iterator[str], rate: float, seconds: float, seed: int, size: int = 1) -> Load:
    """Requests about `size` texts that come `rate` times a second at random moments (Poisson), however many wait already."""
    load, draw = Load(), random.Random(seed)
    began = time.perf_counter()
    due = began
    async with asyncio.TaskGroup() as running:
        while (due := due + draw.expovariate(rate)) < began + seconds:
            await asyncio.sleep(due - time.perf_counter())
            running.create_task(_note(load, ask, list(itertools.islice(texts, size))))
    load.seconds = time.perf_counter() - began
    return load


STEPS, BEYOND, KEPT = (0.6, 0.7, 0.8, 0.9, 1.0), 2.0, 0.95
"""Rates of a rising load by the capacity, up to it and beyond; the share of what comes that a service that keeps up judges."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """What became of a load that rose beyond the capacity, by rate: questions judged a second, share judged, p99 in seconds."""

    paces: Mapping[float, float]
    kept: Mapping[float, float]
    slowest: Mapping[float, float]

    @property
    def peak(self) -> float:
        """The highest pace at any rate."""
        return max(self.paces.values())

    @property
    def knee(self) -> float:
        """The highest rate, by the capacity, at which `KEPT` of what comes is judged; the lowest rate where none is."""
        return max((step for step in STEPS if self.kept[step] >= KEPT), default=STEPS[0])


async def rising(ask: Ask, texts: Iterator[str], capacity: float, seconds: float, rounds: int, size: int = 1) -> Rise:
    """Rates up to the `capacity` in questions a second, and beyond, each for `seconds`, in turns; the medians of `rounds`."""
    loads: dict[float, list[Load]] = {step: [] for step in (*STEPS, BEYOND)}
    for turn in range(rounds):
        for step, taken in loads.items():
            taken.append(await opened(ask, texts, step * capacity / size, seconds, turn, size))
    return Rise(
        paces={step: median(load.pace for load in taken) for step, taken in loads.items()},
        kept={step: median(load.kept for load in taken) for step, taken in loads.items()},
        slowest={step: median(load.within(0.99) for load in taken) for step, taken in loads.items()},
    )


async def _note(load: Load, ask: Ask, texts: Sequence[str]) -> bool:
    """Ask about `texts`, and note what became of it; whether they were judged."""
    began = time.perf_counter()
    if judged := await ask(texts):
        load.latencies.append(time.perf_counter() - began)
        load.judged += judged
    else:
        load.refused += 1
    return judged > 0


@asynccontextmanager
async def over_http(url: str) -> AsyncIterator[Ask]:
    """The service at `url` as what is asked. Any status but 200 and 429 raises `aiohttp.ClientResponseError`."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(texts: Sequence[str]) -> int:
            async with session.post("/v1/judgments", json={"input": texts[0] if len(texts) == 1 else list(texts)}) as answer:
                if answer.status == REFUSED:
                    await answer.read()  # else its connection is closed, and the next request opens one
                    return 0
                answer.raise_for_status()
                return len((await answer.json())["data"])

        yield ask
