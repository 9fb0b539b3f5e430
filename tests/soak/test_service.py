"""The service under load for long: `make soak`. Rows 16 and 17 of the table of faults; what comes of it is printed.

`SOAK_SECONDS` says how long the soak takes when an hour is too much.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
import numpy as np
import pytest

from benchmarks.load import BEYOND, Load, closed, opened, over_http, rising
from benchmarks.models import endless_texts, world_model, world_questions
from benchmarks.service import PATIENCE, serving, untrained_card
from know_thyself.judge import write_judge

SOAK = float(os.environ.get("SOAK_SECONDS", "3600"))
LOOKS = 120
"""How often the process is looked at in a soak; the first quarter warms up."""
SIZES = {1: 32, 16: 8, 128: 4}
"""Lengths of a request, and how many callers of such find the capacity."""
MIB = 2**20
GROWTH = 1.0
"""MiB that the process may grow by in an hour, or in all of a shorter soak."""
INVALID = {
    b"{": 400,
    b'{"input": 5}': 422,
    b'{"input": ""}': 400,
    b'{"input": "a", "threshold": 2}': 422,
    b'{"input": "\\ud800"}': 400,
    b'{"input": "' + b"a" * 40_000 + b'"}': 400,
    b'{"input": [' + b'"a",' * 200 + b'"a"]}': 422,
}
"""Bodies that are refused, and how."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A service of the world's model with a journal, and what the system tells of its process."""
    folder = tmp_path_factory.mktemp("soaked")
    write_judge(folder / "judge", untrained_card(world_model()), None)
    with serving("--judge", folder / "judge", "--journal", folder / "journal.sqlite", log=folder / "log") as (url, process):
        yield url, Path(f"/proc/{process.pid}")


def memory_of(process: Path) -> float:
    """The MiB that a process holds."""
    return int((process / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / MIB


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def open_files(process: Path) -> Counter[bool]:
    """How many sockets (True) and other files a process has open."""
    found = Counter[bool]()
    for file in (process / "fd").iterdir():
        with suppress(FileNotFoundError):  # closed meanwhile
            found[str(file.readlink()).startswith("socket:")] += 1
    return found


@pytest.mark.parametrize("size", SIZES)
def test_beyond_its_capacity_it_refuses_some_and_serves_the_others_in_time(service: tuple[str, Path], size: int) -> None:
    async def scene() -> None:
        texts = endless_texts()
        async with over_http(service[0]) as ask:
            capacity = (await closed(ask, texts, SIZES[size], 10.0, size)).pace
            rise = await rising(ask, texts, capacity, 15.0, 3, size)
        kept = ", ".join(f"{share:.3f} at {step:g}" for step, share in rise.kept.items())
        beyond, early = rise.paces[BEYOND] / rise.peak, rise.slowest[rise.knee]
        late = rise.slowest[BEYOND] / early
        print(f"\nrequests of {size}: {capacity:.0f} questions/s; judged of what comes, by the rate: {kept}")
        print(f"knee {rise.knee:g}, p99 there {early:.3f} s; at {BEYOND:g}: {late:.2f} times that, {beyond:.2f} of the peak")
        assert beyond >= 0.9
        assert late <= 2

    asyncio.run(scene())


def test_an_hour_of_good_and_bad_requests_leaves_it_as_it_was(service: tuple[str, Path]) -> None:
    url, process = service
    seen: list[tuple[float, ...]] = []
    asked_so_far, sockets = itertools.count(1), open_files(process)[True]

    async def look(end: float) -> None:
        while (now := time.monotonic()) < end:
            seen.append((now, memory_of(process), open_files(process)[False], len(list((process / "task").iterdir()))))
            await asyncio.sleep(SOAK / LOOKS)

    async def scene() -> Load:
        async with over_http(url) as ask, aiohttp.ClientSession(url) as session:
            bodies = itertools.cycle(INVALID.items())
            texts = itertools.cycle([question.text for question in world_questions(6000)])  # an engine's cache soon holds them

            async def mixed(asked: Sequence[str]) -> int:
                """Every fourth request is refused, as it must be."""
                if next(asked_so_far) % 4:
                    return await ask(asked)
                body, status = next(bodies)
                async with session.post("/v1/judgments", data=body, headers={"Content-Type": "application/json"}) as answer:
                    assert answer.status in (status, 429), await answer.text()
                return 1

            capacity = (await closed(ask, texts, SIZES[1], 10.0)).pace
            watching = asyncio.create_task(look(time.monotonic() + SOAK))
            load = await opened(mixed, texts, 0.6 * capacity, SOAK, seed=0)
            await watching
            print(f"\n{load.judged} answered, {load.refused} told to come back, at {0.6 * capacity:.0f} requests/s")
            return load

    load = asyncio.run(scene())
    moments, memory, files, threads = (np.array(column) for column in zip(*seen[LOOKS // 4 :], strict=True))
    slope = float(np.polyfit(moments, memory, 1)[0]) * 3600
    print(
        f"memory {memory[0]:.0f} to {memory[-1]:.0f} MiB, {slope:+.2f} MiB/h; files {files.min():.0f} to {files.max():.0f}; ",
        end="",
    )
    print(f"threads {threads.min():.0f} to {threads.max():.0f}")
    assert load.refused <= load.judged / 1000
    assert slope * min(1.0, SOAK / 3600) <= GROWTH
    quarter = len(files) // 4
    assert files[-quarter:].max() <= files[:quarter].max()
    assert threads[-quarter:].max() <= threads[:quarter].max()
    until(lambda: open_files(process)[True] <= sockets)
