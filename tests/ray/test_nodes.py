"""Nodes come after the job, die while engines sample on them, and are not given back: nothing is lost, nothing doubled."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, write_fake_questions
from tests.ray.cluster import Cluster, cluster
from tests.ray.runs import Run, wait_until

DEATHS = 2


@pytest.mark.slow
def test_a_cluster_that_has_scaled_to_nothing_brings_what_a_job_needs(small_world: Path, tmp_path: Path) -> None:
    questions = write_fake_questions(tmp_path / "questions", 120, 60)
    with cluster(tmp_path, cpus=0, brings=2) as running:
        run = Run(tmp_path / "experiments", small_world / "model", questions, "--address", running.address, job="sample")
        output = run.finish(**running.environment)
    assert "engine.actors-min=1 needs 3 CPUs with those that read and write: waiting" in output
    assert run.rows_committed("examine") == 180


def has_more(run: Run, rows: int) -> bool:
    """Whether more than so many `rows` are sampled."""
    return run.rows_committed("examine") > rows


def asked_for(running: Cluster) -> bool:
    """Whether anything waits for nodes, so that an autoscaler would bring them."""
    status, told = running.ask("/api/v0/placement_groups", running.environment["RAY_AUTH_TOKEN"])
    return status == 200 and '"PENDING"' in told  # a busy machine may not answer at once


def test_nodes_that_die_while_they_sample_are_not_missed(small_world: Path, tmp_path: Path) -> None:
    questions = write_fake_questions(tmp_path / "questions", 480, 160)
    with cluster(tmp_path, cpus=0) as running:
        slow = replace(running, environment={**running.environment, "KT_FAKE_DELAY": "0.12"})
        flags = ("--address", running.address, "--engine.actors-max", "4", "--engine.block-rows", "16")
        run = Run(tmp_path / "experiments", small_world / "model", questions, *flags, job="sample")
        process = run.start(**running.environment)
        wait_until(lambda: asked_for(running), "no node was asked for", process)
        with slow.node(tmp_path, 3):
            for death in range(1, DEATHS + 1):
                with slow.node(tmp_path, 2):
                    wait_until(lambda: len(run.engines()) > 1, "no engine came with the node", process)
                    wait_until(partial(has_more, run, run.rows_committed("examine") + 32), "nothing was sampled", process)
                assert process.poll() is None, f"the job ended before death {death}"
            output, _ = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, output
    assert "engine.actors-min=1 needs 3 CPUs with those that read and write: waiting 1200 s at most for nodes" in output
    (marker,) = run.path.glob("stages/examine-*/_DONE.json")
    done = json.loads(marker.read_text())
    assert (done["num_in"], done["num_out"], done["num_dropped"]) == (640, 640, {})
