"""Training that shrinks when a node is drained and grows when one comes, and learns as if nothing had happened."""

from __future__ import annotations

import itertools
import json
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from know_thyself.compute.session import ray_session
from know_thyself.experiment import StageFolder
from know_thyself.learning.lesson import PROGRESS, Lesson
from know_thyself.stages.training import train
from tests.conftest import PATIENCE, write_fake_questions
from tests.engine.classroom import Bench, Classroom, curve_distance, losses, questions_of, settings
from tests.ray.cluster import Cluster, cluster
from tests.ray.runs import Run
from tests.ray.runs import wait_until as until

NOTICE = 6
"""Seconds between the notice and the moment when the node is taken."""
CURVES = 1e-4
RATE = 1e-4
"""So low that what is rounded otherwise on more workers does not grow over hundreds of steps."""
HURRY = {
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "1",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S": "0.5",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "8",
}
"""What Ray looks at every few seconds, looked at more often."""


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Cluster]:
    """A cluster whose head does no work."""
    with cluster(tmp_path, cpus=0) as started:
        yield started


@pytest.fixture
def bench(small_world: Path, tmp_path: Path) -> Bench:
    return Bench(small_world / "model", questions_of(small_world)[:22], tmp_path)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    room = Classroom(1, tmp_path_factory.mktemp("alone"))
    yield room
    room.close()


def train_on(address: str, lesson: Lesson) -> None:
    os.environ |= HURRY  # to import this module is to set what all tests do, anew
    folder = Path(lesson.folder)
    with ray_session(address, folder):
        train(StageFolder("train", folder, "", "", 0), lesson)


@contextmanager
def training(running: Cluster, lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> Iterator[Future[None]]:
    """The stage of `lesson`, at work in a process of its own."""
    with monkeypatch.context() as patch, ProcessPoolExecutor(1, mp_context=get_context("spawn")) as driver:
        for name, value in running.environment.items():
            patch.setenv(name, value)
        yield driver.submit(train_on, running.address, lesson)


def wait_until(reached: Callable[[], bool], stage: Future[None]) -> None:
    while not reached():
        assert not stage.done(), stage.result() or "training ended too early"
        time.sleep(0.1)


def steps(lesson: Lesson) -> int:
    """The steps taken so far."""
    log = Path(lesson.folder) / PROGRESS
    return len(log.read_text().splitlines()) if log.exists() else 0


def begun(lesson: Lesson) -> list[tuple[int, int]]:
    """Each start of the workers: how many, and after which step of the epoch they went on."""
    log = Path(lesson.folder) / "train-epoch1-rank0.log"
    found = re.findall(r"(\d+) workers: epoch 1 begins after step (\d+)", log.read_text() if log.exists() else "")
    return [(int(workers), int(step)) for workers, step in found]


def elastic(bench: Bench, tuning: str, zero_stage: int, passes: int) -> Lesson:
    """A lesson for one or two workers, whose only checkpoints are those on a notice, and whom no failure is forgiven."""
    config = settings(
        tuning,
        workers="1..2",
        zero_stage=zero_stage,
        passes=passes,
        learning_rate=RATE,
        micro_batch_size=1,  # steps that last
        checkpoint_every=0,
        failures=0,
    )
    return bench.lesson("elastic", config, tuning=tuning)


def check(lesson: Lesson, bench: Bench, alone: Classroom, *workers: int) -> None:
    """So many workers learned one after the other, each went on where those before had stopped, and all as if undisturbed."""
    config = lesson.config
    whole = bench.teach(alone, "whole", lesson.tuning, zero_stage=config.zero_stage, passes=config.passes, learning_rate=RATE)
    apart = curve_distance(losses(Path(whole.folder)), losses(Path(lesson.folder)))
    print(f"\n{lesson.tuning}, ZeRO-{config.zero_stage}: workers, steps before them {begun(lesson)}, losses {apart:.1e} apart")
    assert tuple(number for number, _ in begun(lesson)) == workers
    behind = [step for _, step in begun(lesson)]
    assert behind[0] == 0
    assert all(before < after for before, after in itertools.pairwise(behind))
    assert apart < CURVES


def test_a_drained_node_costs_no_step_and_no_failure(
    running: Cluster, bench: Bench, alone: Classroom, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training starts on two nodes, one of them is drained, and it finishes on the other."""
    lesson = elastic(bench, "lora", 2, passes=120)
    with running.node(tmp_path, 1), running.node(tmp_path, 1) as taken, training(running, lesson, monkeypatch) as stage:
        wait_until(lambda: steps(lesson) >= 5, stage)
        running.drain(taken, NOTICE)
        stage.result(PATIENCE)
    check(lesson, bench, alone, 2, 1)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [2, 3])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_training_shrinks_and_grows_with_the_cluster(
    running: Cluster,
    bench: Bench,
    alone: Classroom,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tuning: str,
    zero_stage: int,
) -> None:
    """Training starts on one node, is joined by a second one, and finishes there when the first is drained."""
    lesson = elastic(bench, tuning, zero_stage, passes=300)
    with running.node(tmp_path, 1) as taken, training(running, lesson, monkeypatch) as stage:
        wait_until(lambda: steps(lesson) >= 5, stage)
        with running.node(tmp_path, 1):
            wait_until(lambda: len(begun(lesson)) == 2 and steps(lesson) > begun(lesson)[1][1] + 5, stage)
            running.drain(taken, NOTICE)
            stage.result(PATIENCE)
    check(lesson, bench, alone, 1, 2, 1)


@pytest.mark.slow
def test_engines_come_and_go_with_their_nodes(running: Cluster, small_world: Path, tmp_path: Path) -> None:
    """Sampling starts with one engine on one node, gets more on a second one, and finishes there when the first is drained."""
    slow = replace(running, environment={**running.environment, "KT_FAKE_DELAY": "0.05"})
    questions = write_fake_questions(tmp_path / "questions", 480, 160)
    flags = ("--address", running.address, "--engine.actors-max", "4", "--engine.block-rows", "16")
    run = Run(tmp_path / "experiments", small_world / "model", questions, *flags, job="sample")
    with slow.node(tmp_path, 3) as first:
        process = run.start(**running.environment)
        until(lambda: run.rows_committed("examine") > 0, "nothing was examined", process)
        assert len(engines(run)) == 1
        with slow.node(tmp_path, 4):
            until(lambda: len(engines(run)) > 1, "no engine came with the second node", process)
            running.drain(first, NOTICE)
            output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    (marker,) = run.path.glob("stages/examine-*/_DONE.json")
    done = json.loads(marker.read_text())
    assert (done["num_in"], done["num_out"], done["num_dropped"]) == (640, 640, {})


def engines(run: Run) -> list[Path]:
    """The logs of the engines so far."""
    return list(run.path.glob("logs/attempt_*/engine-*.log"))
