"""Does a question cost the same among many, and do engines add up?

    python -m benchmarks.scale

The examine stage on the fake engine, so that nothing but our own work is measured: the cost of a question more from 1,000 to
10,000 of them and from 10,000 to 100,000, commits included, with the driver's memory; then with an engine that sleeps for 10 ms
a question, on one to eight actors, which need no cores of their own for that. A process of its own for each run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Row, median, peak_memory, report
from know_thyself.compute.session import SPARE_CPUS
from know_thyself.config import EngineConfig
from know_thyself.engine.protocol import Decoding
from know_thyself.experiment import Experiment
from know_thyself.progress import streams_to
from know_thyself.types import Question

CASE, REPEATS = "scale", 3
FEW, SOME, MANY, PART = 1_000, 10_000, 100_000, 1_000
DELAY, ACTORS, EACH = 0.01, (1, 4, 8), 2_000


def run() -> Iterator[Row]:
    """The cost of a question as they grow in number, the driver's memory, and the pace by actors."""
    few, some = ([_measured(size) for _ in range(REPEATS)] for size in (FEW, SOME))
    many = _measured(MANY)
    times = [median(run["seconds"] for run in runs) for runs in (few, some, [many])]
    small, large = (times[1] - times[0]) / (SOME - FEW), (times[2] - times[1]) / (MANY - SOME)
    growth = f"{SOME:,} to {MANY:,} questions"
    yield Row(
        case=CASE,
        size=growth,
        against=f"{FEW:,} to {SOME:,}, a question more",
        ours=1e3 * large,
        theirs=1e3 * small,
        unit="ms",
        target=1.1,
        less_is_better=True,
    )
    yield Row(
        case=CASE,
        size=f"{MANY:,} questions",
        against=f"{FEW:,}, driver's peak memory",
        ours=many["memory"] / 2**20,
        theirs=median(one["memory"] for one in few) / 2**20,
        unit="MiB",
        target=1.1,
        less_is_better=True,
    )
    alone = _measured(EACH, 1, DELAY)["steady"]
    for actors in ACTORS[1:]:
        together = _measured(EACH * actors, actors, DELAY)["steady"]
        yield Row(
            case=CASE,
            size=f"{actors} actors, {DELAY * 1e3:.0f} ms a question",
            against="1 actor, steady",
            ours=1 / together,
            theirs=1 / alone,
            unit="questions/s",
        )


def _measured(questions: int, actors: int = 1, delay: float = 0.0) -> dict[str, Any]:
    """The run of `measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--questions", str(questions), "--actors", str(actors)]
    environment = {**os.environ, "KT_FAKE_DELAY": str(delay)}
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def measure(questions: int, actors: int) -> dict[str, Any]:
    """Seconds of the stage, its steady seconds per question and this process's peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        experiment = Experiment(Path(scratch), attempt=1)
        experiment.logs.mkdir(parents=True)
        with streams_to(experiment.logs / "driver.log"):
            return _measure(experiment, questions, actors)


def _measure(experiment: Experiment, questions: int, actors: int) -> dict[str, Any]:
    import ray

    from benchmarks.asking import Asking, steady, time_stage

    ray.init(address="local", num_cpus=actors + SPARE_CPUS, include_dashboard=False, log_to_driver=False)
    decoding = Decoding(num_trials=5, temperature=0.7, top_p=1.0, max_tokens=8)
    engine = EngineConfig(backend="know_thyself.testing:FakeEngine", actors_min=actors, actors_max=actors)
    asking = Asking(model="fake", questions=(), decoding=decoding, engine=engine)
    source = experiment.stage("questions", {})
    source.path.mkdir(parents=True)
    for first in range(0, questions, PART):
        rows = [_question(number).to_row() for number in range(first, min(first + PART, questions))]
        pq.write_table(pa.Table.from_pylist(rows), source.path / f"part-{first:08}.parquet")
    seconds, folder = time_stage(experiment, source, questions, asking, samples=True, judges=True)
    found = {"seconds": seconds, "steady": steady(folder.tables()), "memory": peak_memory()}
    ray.shutdown()
    return found


def _question(number: int) -> Question:
    return Question(id=f"q{number:08}", text=f"Which came first, {number} or {number + 1}?", answers=("both",))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, help="measure one run of so many questions alone")
    parser.add_argument("--actors", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.questions:
        print(json.dumps(measure(arguments.questions, arguments.actors)))
    else:
        report(CASE, run)
