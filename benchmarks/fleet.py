"""What does a fleet lose to preemptions, and when does its driver become what it waits for? A simulation, not a run.

    python -m benchmarks.fleet --measured-by NAME --preemptions 0 0.1 1 --questions 138000 10000000 1000000000

Engines take blocks of questions from one queue. Each is ready after its start, works at its pace, and loses its block and its
start when its machine is taken back, at random, so often an hour; another machine comes after a while. Every finished block
takes its driver a moment, and the driver does one after the other. Paces are measured (`--measured-by`: an experiment's
used.json) or given; the driver's moment is what `python -m benchmarks.scale --million` measured.
"""

from __future__ import annotations

import argparse
import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from know_thyself.config import LATEST
from know_thyself.experiment import find_experiment
from know_thyself.experiment.usage import used_by

HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """So many engines, each with `question` seconds a question and `start` seconds before the first.

    `preemptions` are per engine and hour, a new machine comes `replacement` seconds later, a block takes the driver `driver`.
    """

    engines: int
    question: float
    start: float
    block_rows: int = 256
    preemptions: float = 0.0
    replacement: float = 0.0
    driver: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of it, in seconds: the whole, and of all engines together what was held, what went into committed blocks.

    `redone` counts questions that were asked or half asked for nothing, `preempted` machines that were taken back.
    """

    seconds: float
    held: float
    useful: float
    redone: float
    preempted: int

    @property
    def waste(self) -> float:
        """The share of the time held that no committed block came of: starts, lost blocks, waiting for the driver."""
        return 1.0 - self.useful / self.held


def simulate(fleet: Fleet, questions: int, seed: int = 0) -> Outcome:
    """`questions` on `fleet`, event by event. A block that was lost goes back into the queue."""
    chance = random.Random(seed)
    blocks = -(-questions // fleet.block_rows)
    work = fleet.block_rows * fleet.question
    queued, finished, driver_free = blocks, 0, 0.0
    end = held = redone = 0.0
    preempted = 0

    def doom(now: float) -> float:
        return now + chance.expovariate(fleet.preemptions / HOUR) if fleet.preemptions else float("inf")

    # An engine is an entry: when it next takes a block, since when its machine is held, and when that will be taken back.
    free = [(fleet.start, number, 0.0, doom(0.0)) for number in range(fleet.engines)]
    heapq.heapify(free)
    while finished < blocks:
        now, number, since, doomed = heapq.heappop(free)
        done = now + work
        if doomed <= now or (queued and doomed < done):
            redone += max(0.0, doomed - now) / fleet.question
            preempted += 1
            held += doomed - since
            again = doomed + fleet.replacement
            heapq.heappush(free, (again + fleet.start, number, again, doom(again)))
        elif queued:
            queued -= 1
            finished += 1
            driver_free = max(driver_free, done) + fleet.driver
            end = max(end, driver_free)
            # An engine has two blocks at once, so it waits for the driver only when that is a block behind.
            heapq.heappush(free, (max(done, driver_free - work), number, since, doomed))
    held += sum(max(0.0, end - since) for _, _, since, _ in free)
    return Outcome(seconds=end, held=held, useful=blocks * work, redone=redone, preempted=preempted)


def measured(name: str, root: Path) -> tuple[float, float]:
    """Seconds a question, answers and judgment together, and of a start, as the experiment `name` measured them."""
    uses = used_by(find_experiment(root, name).path)
    each = sum(uses[act].seconds / uses[act].questions for act in ("sample", "judge") if act in uses)
    return each, uses["start"].seconds / uses["start"].times


def rows(fleet: Fleet, sizes: Sequence[int], rates: Sequence[float], engines: Sequence[int]) -> Iterator[list[str]]:
    """A line for each size, number of engines and rate of preemption."""
    for questions in sizes:
        for count in engines:
            for rate in rates:
                one = Fleet(
                    engines=count,
                    question=fleet.question,
                    start=fleet.start,
                    block_rows=fleet.block_rows,
                    preemptions=rate,
                    replacement=fleet.replacement,
                    driver=fleet.driver,
                )
                found = simulate(one, questions)
                yield [
                    f"{questions:,}",
                    f"{count:,}",
                    f"{rate:g}",
                    f"{found.seconds / HOUR:,.2f}",
                    f"{found.held / HOUR:,.1f}",
                    f"{found.preempted:,}",
                    f"{found.redone / questions:.2%}",
                    f"{found.waste:.1%}",
                ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured-by", default=LATEST, help="the experiment that measured the paces, unless both are given")
    parser.add_argument("--root", type=Path, default=Path("experiments"), help="the folder it is in")
    parser.add_argument("--question", type=float, help="seconds that an engine takes a question")
    parser.add_argument("--start", type=float, help="seconds that an engine takes to start")
    parser.add_argument("--driver", type=float, default=0.0, help="seconds that the driver takes a block")
    parser.add_argument("--replacement", type=float, default=120.0, help="seconds until another machine comes")
    parser.add_argument("--block-rows", type=int, default=256)
    parser.add_argument("--questions", type=int, nargs="+", default=[138_000, 10_000_000])
    parser.add_argument("--engines", type=int, nargs="+", default=[8, 64])
    parser.add_argument("--preemptions", type=float, nargs="+", default=[0.0, 0.1, 1.0], help="per engine and hour")
    asked = parser.parse_args()
    question, start = asked.question, asked.start
    if question is None or start is None:
        found = measured(asked.measured_by, asked.root)
        question, start = question or found[0], found[1] if start is None else start
    fleet = Fleet(
        engines=1,
        question=question,
        start=start,
        block_rows=asked.block_rows,
        replacement=asked.replacement,
        driver=asked.driver,
    )
    console = Console(width=130, soft_wrap=True, highlight=False)
    console.print(
        f"{1e3 * question:.3g} ms a question, {start:.3g} s a start, {1e3 * asked.driver:.3g} ms a block in the driver"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("questions", "engines", "preemptions/h", "hours", "engine hours", "preempted", "redone", "waste"):
        table.add_column(column, justify="right")
    for row in rows(fleet, asked.questions, asked.preemptions, asked.engines):
        table.add_row(*row)
    console.print(table)


if __name__ == "__main__":
    main()
