"""Does a question cost the same among many, and do engines add up?

    python -m benchmarks.scale
    python -m benchmarks.scale --million      # the driver's memory at a million questions; minutes, not in `make bench`

The examine stage on the fake engine, so that nothing but our own work is measured: the cost of a question more from 1,000 to
10,000 of them and from 10,000 to 100,000, commits included, with the driver's memory; then with an engine that sleeps for 10 ms
a question, on one to eight actors, which need no cores of their own for that. A process of its own for each run.

`--million` judges a million questions, as the driver sees as many blocks, ids and parts whatever is in them, and then holds a
million ids in the ways that our commit and Ray's checkpoint hold them.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.results import Row, median, peak_memory, report
from know_thyself.compute.session import SPARE_CPUS
from know_thyself.config import EngineConfig
from know_thyself.data.identity import question_id
from know_thyself.engine.protocol import Decoding
from know_thyself.experiment import Experiment
from know_thyself.progress import streams_to
from know_thyself.types import Question

CASE, REPEATS, MILLION_CASE = "scale", 3, "million"
FEW, SOME, MANY, PART, AT_ONCE = 1_000, 10_000, 100_000, 10_000, 1_000
DELAY, ACTORS, EACH = 0.01, (1, 4, 8), 2_000
MILLION, ALLOWED = 1_000_000, 200
"""Questions, and the MiB that the driver may grow by from `SOME` to so many."""


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
            against="1 actor, steady, for each",
            ours=1 / together / actors,
            theirs=1 / alone,
            unit="questions/s",
            target=0.9,
        )


def million() -> Iterator[Row]:
    """What the driver's memory grows by from `SOME` questions to a million, and what a million ids take."""
    some, many = (_measured(size, samples=False) for size in (SOME, MILLION))
    yield Row(
        case=MILLION_CASE,
        size=f"{SOME:,} to {MILLION:,} questions, judged",
        against="what the driver may grow by",
        ours=(many["memory"] - some["memory"]) / 2**20,
        theirs=ALLOWED,
        unit="MiB",
        target=1.0,
        less_is_better=True,
    )
    yield Row(
        case=MILLION_CASE,
        size=f"{MILLION:,} questions, judged",
        against=f"{SOME:,}, start and commit included",
        ours=MILLION / many["seconds"],
        theirs=SOME / some["seconds"],
        unit="questions/s",
    )
    yield from _ids_held()


def _ids_held() -> Iterator[Row]:
    """A million ids as our commit holds them, and as Ray's checkpoint does when a stage is resumed."""
    from ray.data.checkpoint import checkpoint_filter

    ids = [question_id(str(number), None) for number in range(MILLION)]
    as_set = sys.getsizeof(set(ids)) + sum(map(sys.getsizeof, ids))
    table = pa.array(ids)
    filtered = np.sort(table.to_numpy(zero_copy_only=False))
    held = {
        f"a set of Python's: {as_set / 2**20:.0f} MiB; ours is Arrow's": (table.nbytes, as_set),
        "in the object store; ours is each of Ray's filters": (
            checkpoint_filter._numpy_size(filtered),
            len(pickle.dumps(filtered, protocol=5)),
        ),
    }
    for against, (ours, theirs) in held.items():
        yield Row(
            case=MILLION_CASE,
            size="a million ids of 16 characters",
            against=against,
            ours=ours / 2**20,
            theirs=theirs / 2**20,
            unit="MiB",
        )


def _measured(questions: int, actors: int = 1, delay: float = 0.0, *, samples: bool = True) -> dict[str, Any]:
    """The run of `measure` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.scale", "--questions", str(questions), "--actors", str(actors)]
    command += [] if samples else ["--no-samples"]
    environment = {**os.environ, "KT_FAKE_DELAY": str(delay)}
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return found


def measure(questions: int, actors: int, samples: bool) -> dict[str, Any]:
    """Seconds of the stage, its steady seconds per question and this process's peak memory."""
    with tempfile.TemporaryDirectory() as scratch:
        experiment = Experiment(Path(scratch), attempt=1)
        experiment.logs.mkdir(parents=True)
        with streams_to(experiment.logs / "driver.log"):
            return _measure(experiment, questions, actors, samples)


def _measure(experiment: Experiment, questions: int, actors: int, samples: bool) -> dict[str, Any]:
    import ray

    from benchmarks.asking import Asking, steady, time_stage

    ray.init(address="local", num_cpus=actors + SPARE_CPUS, include_dashboard=False, log_to_driver=False)
    decoding = Decoding(num_trials=5, temperature=0.7, top_p=1.0, max_tokens=8)
    engine = EngineConfig(backend="know_thyself.testing:FakeEngine", actors_min=actors, actors_max=actors)
    asking = Asking(model="fake", questions=(), decoding=decoding, engine=engine)
    source = experiment.stage("questions", {})
    source.path.mkdir(parents=True)
    for first in range(0, questions, PART):
        _write(source.path / f"part-{first:08}.parquet", range(first, min(first + PART, questions)))
    seconds, folder = time_stage(experiment, source, questions, asking, samples=samples, judges=True)
    found = {"seconds": seconds, "steady": steady(folder.tables()), "memory": peak_memory()}
    ray.shutdown()
    return found


def _write(part: Path, numbers: range) -> None:
    """Write the questions of `numbers`, with few of them in memory at once: it is the driver's that is measured."""
    with pq.ParquetWriter(part, pa.Table.from_pylist([_question(0).to_row()]).schema) as writer:
        for first in range(0, len(numbers), AT_ONCE):
            rows = [_question(number).to_row() for number in numbers[first : first + AT_ONCE]]
            writer.write_table(pa.Table.from_pylist(rows, schema=writer.schema))


def _question(number: int) -> Question:
    return Question(id=f"q{number:08}", text=f"Which came first, {number} or {number + 1}?", answers=("both",))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, help="measure one run of so many questions alone")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--no-samples", action="store_true", help="judge them alone")
    parser.add_argument("--million", action="store_true", help="the driver's memory at a million questions")
    arguments = parser.parse_args()
    if arguments.questions:
        print(json.dumps(measure(arguments.questions, arguments.actors, not arguments.no_samples)))
    elif arguments.million:
        report(MILLION_CASE, million)
    else:
        report(CASE, run)
