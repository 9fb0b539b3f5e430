"""The shipped `serve/config.yaml`, deployed as it says on a cluster of several nodes, of which one dies."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from know_thyself.client import KnowThyself
from know_thyself.judge import read_judge, write_judge
from know_thyself.testing import untrained_card
from know_thyself.wire import JudgmentRequest
from serve.api import MAX_BODY
from serve.registry import Registry
from tests.conftest import PATIENCE
from tests.ray.cluster import ROOT, Cluster, cluster, free_ports

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3 * PATIENCE)]

SERVE = str(Path(sys.executable).with_name("serve"))
CAP = {"RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH": "serve.proxy:middlewares", "PYTHONPATH": str(ROOT)}


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two judges, of which `one` serves."""
    for number, name in enumerate(("one", "two")):
        card = untrained_card("world", experiment=name, max_model_len=128 - number)
        write_judge(tmp_path / "registry" / name, card, None)
    found = Registry(tmp_path / "registry")
    found.appoint("one")
    return found


def configuration(registry: Registry, port: int) -> dict[str, Any]:
    """What is shipped, with the places of this machine and an engine that only pretends."""
    told: dict[str, Any] = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    told["http_options"]["port"] = port
    told["applications"][0]["args"] = {
        "registry": str(registry.judge("one").parent),
        "backend": "know_thyself.testing:FakeEngine",
    }
    return told


def nodes_of_replicas(running: Cluster) -> list[str]:
    """The nodes on which replicas of the app run, once for each."""
    application = running.told("/api/serve/applications/")["applications"].get("judgments", {})
    replicas = application.get("deployments", {}).get("judgments", {}).get("replicas", [])
    return [replica["node_id"] for replica in replicas if replica["state"] == "RUNNING"]


def until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_service_outlives_a_node_and_follows_its_registry_on_all(registry: Registry, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    file, url, numbers = tmp_path / "config.yaml", f"http://127.0.0.1:{port}", itertools.count()
    file.write_text(yaml.safe_dump(configuration(registry, port)))
    with cluster(tmp_path, cpus=0, settings=CAP) as running, ExitStack() as others, KnowThyself(url, timeout=60) as client:
        own = [others.enter_context(ExitStack()) for _ in range(2)]
        nodes = {stack.enter_context(running.node(tmp_path, 1)): stack for stack in own}
        command = [SERVE, "deploy", str(file), "--address", running.server]
        subprocess.run(command, env=running.environment, cwd=ROOT, check=True, capture_output=True, timeout=PATIENCE)
        until(lambda: sorted(nodes_of_replicas(running)) == sorted(nodes))

        def judges() -> set[str]:
            """The digests of the judges that answer some questions."""
            return {client.ask(JudgmentRequest(input=f"What is {next(numbers)}?")).judge_digest for _ in range(20)}

        one, two = ({read_judge(registry.judge(name)).digest[:12]} for name in ("one", "two"))
        assert judges() == one
        assert httpx2.post(f"{url}/v1/judgments", content=b" " * (MAX_BODY + 1)).status_code == 413
        registry.appoint("two")
        until(lambda: judges() == two)
        killed = next(iter(nodes))
        nodes.pop(killed).close()
        while killed in nodes_of_replicas(running):
            assert judges() == two
        others.enter_context(running.node(tmp_path, 1))
        until(lambda: len(set(nodes_of_replicas(running)) - {killed}) == 2)
        assert judges() == two
