"""What a platform engineer runs beside a cluster: the doctor before a job, and the watcher that drains a node on notice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from know_thyself.doctor.findings import our_ray
from tests.doors.test_drain_on_notice import WATCHER, aws, aws_action, serving
from tests.object_store import Bucket, bucket
from tests.ray.cluster import ROOT, Cluster, cluster


@pytest.fixture(scope="module")
def store() -> Iterator[Bucket]:
    with bucket() as started:
        yield started


@pytest.fixture(scope="module")
def running(store: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A head that finds the store and may use it."""
    folder = tmp_path_factory.mktemp("cluster")
    with cluster(folder, settings=store.environment(folder / "copies")) as started:
        yield started


def doctor(running: Cluster, root: Path | str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "know_thyself.cli", "doctor", "--address", running.server, "--experiments-root", str(root)]
    return subprocess.run(
        command,
        env={**running.environment, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def test_the_doctor_finds_a_sound_cluster_sound_and_leaves_nothing(running: Cluster, tmp_path: Path) -> None:
    found = doctor(running, tmp_path / "experiments")
    assert found.returncode == 0, found.stdout + found.stderr
    lines = found.stdout.splitlines()
    assert lines[:3] == [
        "ok   token: asked for, and yours is accepted",
        f"ok   Ray: {our_ray()}",
        "ok   nodes: 1 alive, 4 CPUs for work",
    ]
    assert "ok   storage: every node reads and writes the same folder" in lines
    assert list((tmp_path / "experiments").iterdir()) == []
    _, jobs = running.ask("/api/jobs/", running.environment["RAY_AUTH_TOKEN"])
    assert [job for job in json.loads(jobs) if job["type"] == "SUBMISSION"] == []


def test_the_doctor_finds_a_root_that_cannot_be_written(running: Cluster, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    found = doctor(running, tmp_path / "file" / "experiments")
    assert found.returncode == 1
    assert "FAIL storage: the head: Not a directory" in found.stdout


def test_the_doctor_finds_a_store_that_the_node_can_use(running: Cluster, store: Bucket) -> None:
    root = f"{store.url}/experiments"
    found = doctor(running, root, AWS_ENDPOINT_URL="http://127.0.0.1:1")
    assert found.returncode == 0, found.stdout + found.stderr
    assert f"ok   storage: every node writes, lists, reads and deletes below {root}" in found.stdout.splitlines()


def test_the_doctor_finds_a_bucket_that_is_not_there(running: Cluster) -> None:
    found = doctor(running, "s3://absent/experiments")
    assert found.returncode == 1
    (fault,) = [line for line in found.stdout.splitlines() if line.startswith("FAIL")]
    assert fault.startswith("FAIL storage: ")
    assert "NO_SUCH_BUCKET" in fault
    assert "its bucket has to be there" in fault


def test_the_doctor_is_turned_away_with_another_token(running: Cluster, tmp_path: Path) -> None:
    found = doctor(running, tmp_path, RAY_AUTH_TOKEN="0" * 64)
    assert found.returncode == 1
    assert found.stdout.startswith("FAIL token:")


def test_on_a_notice_the_watcher_has_ray_drain_the_node(running: Cluster) -> None:
    """The last of this module: it ends the only node."""
    with serving(aws(lambda: aws_action(90))) as metadata:
        watched = subprocess.run(
            [sys.executable, str(WATCHER), "--cloud", "aws", "--metadata", f"127.0.0.1:{metadata.port}"],
            env={**running.environment, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert watched.returncode == 0, watched.stderr
    deadline = time.monotonic() + 60
    while (node := the_node(running))["state"] != "DEAD":
        assert time.monotonic() < deadline, node
        time.sleep(0.5)
    assert node["deathInfo"]["reason"] == "AUTOSCALER_DRAIN_PREEMPTED"
    assert "AWS will terminate this instance" in node["deathInfo"]["reasonMessage"]


def the_node(running: Cluster) -> dict[str, Any]:
    (node,) = running.told("/nodes?view=summary")["data"]["summary"]
    return dict(node["raylet"])
