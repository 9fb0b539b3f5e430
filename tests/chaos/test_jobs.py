"""Jobs whose engines, nodes and drivers die all the time: `make chaos`. Rows 1 to 4 of the table of faults; figures are told.

Each ends with the tables of the same job undisturbed: no question lost, none doubled, all labels alike.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.cluster import Cluster, cluster
from tests.ray.runs import Run, wait_until

RUNS, ENGINES, NODES, DRIVERS = 10, 10, 30, 20
"""Runs whose engines are killed, engines killed in each; nodes killed in all; drivers killed."""
CPUS, NOTICE = 3, 6
"""Of a node; the seconds of notice that every third node is given."""
DELAY, WATCHED = {"KT_FAKE_DELAY": "0.02"}, {"RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1"}
FORGIVING = ("--train.failures", "1000", "--train.checkpoint-every", "2", "--train.batch-size", "1", "--train.epochs", "1")
REAL_NODES, REAL_DRIVERS, SAME = 6, 3, 0.995
"""Deaths of the real job, and the share of its labels that are to be alike: vLLM promises no equality across batches."""


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_fake_questions(tmp_path_factory.mktemp("data") / "questions", 1200, 400)


@dataclass
class Fleet:
    """The nodes of a cluster, of which some die and others come."""

    cluster: Cluster
    folder: Path
    nodes: dict[str, ExitStack] = field(default_factory=dict)
    deaths: int = 0

    def join(self) -> None:
        """Another node comes."""
        stack = ExitStack()
        self.nodes[stack.enter_context(self.cluster.node(self.folder, CPUS))] = stack

    def replace_one(self, chance: random.Random) -> None:
        """A node dies with all its processes, every third after a notice, and another comes in its place."""
        taken = chance.choice(list(self.nodes))
        self.deaths += 1
        if self.deaths % 3 == 0:
            self.cluster.drain(taken, NOTICE)
            time.sleep(NOTICE)
        self.nodes.pop(taken).close()
        self.join()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """A head that does no work, and two nodes that do."""
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, cpus=0) as started:
        found = Fleet(replace(started, environment={**started.environment, **WATCHED}), folder)
        try:
            found.join()
            found.join()
            yield found
        finally:
            for node in found.nodes.values():
                node.close()


def on(fleet: Fleet, root: Path, model: Path, questions: Path, *flags: str) -> Run:
    """A run on the cluster of `fleet`, that may lose as many workers as it likes."""
    return Run(root, model, questions, "--address", fleet.cluster.address, *FORGIVING, *flags)


def done(run: Run) -> int:
    """What a run has to show so far: it only grows."""
    return run.rows_committed("examine") + run.steps_kept() + len(list(run.path.glob("stages/*/_DONE.json")))


def wait_for_more(run: Run, process: subprocess.Popen[str]) -> None:
    """Wait until `run` has done something more, or ends."""
    before = done(run)
    wait_until(lambda: process.poll() is not None or done(run) > before, "nothing more was done")


def finished(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output


def test_engines_that_die_at_any_time_lose_and_double_nothing(small_world: Path, questions: Path, tmp_path: Path) -> None:
    flags = ("--engine.actors-min", "2", "--engine.actors-max", "2", "--engine.block-rows", "16")
    undisturbed = Run(tmp_path / "undisturbed", small_world / "model", questions, *flags, job="sample")
    began = time.monotonic()
    undisturbed.finish(**DELAY)
    alone, deaths, slowest = time.monotonic() - began, 0, 0.0
    for number in range(RUNS):
        run, chance = undisturbed.like(tmp_path / str(number)), random.Random(number)
        began = time.monotonic()
        process = run.start(**DELAY)
        while deaths < (number + 1) * ENGINES and process.poll() is None:
            wait_for_more(run, process)
            time.sleep(chance.uniform(0, 1))
            if engines := run.engines():
                os.kill(chance.choice(engines), signal.SIGKILL)
                deaths += 1
        finished(process)
        slowest = max(slowest, time.monotonic() - began)
        assert run.tables() == undisturbed.tables()
    told = f"{deaths} engines killed in {RUNS} runs: none lost, none doubled"
    print(f"\n{told}; {alone:.0f} s undisturbed, at most {slowest:.0f} s")
    assert deaths >= 0.9 * RUNS * ENGINES, "the runs ended before their engines were killed"


def test_nodes_that_die_lose_and_double_nothing(fleet: Fleet, small_world: Path, questions: Path, tmp_path: Path) -> None:
    """With two engines at most, a worker that trains, and every third node drained before it goes."""
    undisturbed = on(fleet, tmp_path / "undisturbed", small_world / "model", questions, "--engine.actors-max", "2")
    began = time.monotonic()
    undisturbed.finish(**fleet.cluster.environment, **DELAY)
    alone, times = time.monotonic() - began, list[float]()
    chance = random.Random(0)
    while fleet.deaths < NODES:
        run = undisturbed.like(tmp_path / str(len(times)))
        began = time.monotonic()
        process = run.start(**fleet.cluster.environment, **DELAY)
        while process.poll() is None:
            wait_for_more(run, process)
            time.sleep(chance.uniform(0, 3))
            if process.poll() is None:
                fleet.replace_one(chance)
        finished(process)
        times.append(time.monotonic() - began)
        assert run.tables() == undisturbed.tables()
    print(
        f"\n{fleet.deaths} nodes killed in {len(times)} runs, each third with {NOTICE} s notice: none lost, none doubled; "
        f"{alone:.0f} s undisturbed, {min(times):.0f} to {max(times):.0f} s"
    )


def test_drivers_that_die_at_any_time_do_nothing_twice(small_world: Path, questions: Path, tmp_path: Path) -> None:
    undisturbed = Run(tmp_path / "undisturbed", small_world / "model", questions, *FORGIVING)
    undisturbed.finish(**DELAY)
    run, chance = undisturbed.like(tmp_path / "killed"), random.Random(0)
    for _ in range(DRIVERS):
        written = {part: part.stat().st_mtime_ns for part in run.parts("examine")}
        committed, moment = run.rows_committed("examine"), [float("inf")]
        before = done(run)

        def is_time(before: int = before, moment: list[float] = moment) -> bool:
            """Some moment after the first thing was done that was not before."""
            if done(run) > before:
                moment[0] = min(moment[0], time.monotonic() + chance.uniform(0, 0.6))
            return time.monotonic() >= moment[0]

        run.kill_when(is_time, **DELAY)
        untouched = [part for part, at in written.items() if part.exists() and part.stat().st_mtime_ns == at]
        assert sum(pq.read_metadata(part).num_rows for part in untouched) >= committed, "committed rows were asked again"
    run.finish()
    assert run.tables() == undisturbed.tables()
    print(f"\n{DRIVERS} drivers killed: none lost, none doubled, nothing committed done again")


def test_the_real_world_job_survives_its_nodes_and_its_drivers(fleet: Fleet, tmp_path: Path) -> None:
    """vLLM and the world's model: while nodes are killed, so is the driver, and the same command goes on."""
    flags = ("--engine.backend", "vllm", "--engine.max-model-len", "256", "--sampling.max-tokens", "12")
    sizes = ("--prompt-style", "system", "--data.num-train", "600", "--data.num-validation", "300")
    undisturbed = on(fleet, tmp_path / "undisturbed", Path("world"), Path("world"), *flags, *sizes)
    undisturbed.finish(**fleet.cluster.environment)
    run, chance, deaths = undisturbed.like(tmp_path / "killed"), random.Random(1), fleet.deaths
    for _ in range(REAL_DRIVERS):
        process = run.start(**fleet.cluster.environment)
        for _ in range(REAL_NODES // REAL_DRIVERS):
            wait_for_more(run, process)
            time.sleep(chance.uniform(0, 3))
            fleet.replace_one(chance)
        wait_for_more(run, process)
        process.kill()
        process.communicate(timeout=60)
    run.finish(**fleet.cluster.environment)
    ours, theirs = ({row["id"]: row["correct"] for row in rows} for rows in (graded(run), graded(undisturbed)))
    assert len(graded(run)) == len(graded(undisturbed)) == len(ours)
    assert ours.keys() == theirs.keys()
    alike = sum(ours[name] == theirs[name] for name in ours) / len(ours)
    told = f"{fleet.deaths - deaths} nodes and {REAL_DRIVERS} drivers killed: none lost, none doubled"
    print(f"\n{told}; {alike:.2%} of labels alike")
    assert alike >= SAME


def graded(run: Run) -> list[dict[str, object]]:
    """The grades of a run."""
    return [row for part in run.parts("grade") for row in pq.read_table(part).to_pylist()]
