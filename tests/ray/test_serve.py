"""The service on Ray Serve: asked through the proxy, guarded, swapped by its registry, and back after a death."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import ray
import yaml
from ray import serve as ray_serve
from ray.serve.schema import ServeDeploySchema

from know_thyself.errors import ConfigError, JudgeError
from know_thyself.judge import JudgeCard, read_judge, write_judge
from know_thyself.testing import untrained_card
from know_thyself.wire import AUTO
from serve import app as serve_app
from serve.api import MAX_BODY
from serve.app import Service, build
from serve.registry import Registry
from serve.startup import Settings
from tests.conftest import PATIENCE
from tests.ray.cluster import ROOT, descendants, free_ports

ENGINE = "know_thyself.testing:FakeEngine"
QUESTION = {"input": "Where was Sisun Nosix born?"}


def card(**changes: Any) -> JudgeCard:
    """The card of the untrained judge of the packaged world, with `changes`."""
    return untrained_card("world", **changes)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    """A registry of three judges, of which `one` serves."""
    folder = tmp_path_factory.mktemp("registry")
    for number, name in enumerate(("one", "two", "three")):
        write_judge(folder / name, card(experiment=name, max_model_len=128 - number), None)
    found = Registry(folder)
    found.appoint("one")
    return found


@pytest.fixture(scope="module")
def arguments(registry: Registry) -> dict[str, Any]:
    """What the service is built with: `two` is the canary of half of all requests; one key opens everything, one is for few."""
    folder = registry.judge("one").parent
    policy, keys = folder / "policy.toml", folder / "keys.toml"
    policy.write_text('[default]\nthreshold = 0.5\n[canary]\njudge = "two"\nshare = 0.5\n')
    digest, few = (hashlib.sha256(text).hexdigest() for text in (b"open", b"few"))
    keys.write_text(
        f'[[keys]]\nname = "all"\nsha256 = "{digest}"\nscopes = ["judge", "feedback", "admin"]\n'
        f'[[keys]]\nname = "few"\nsha256 = "{few}"\nscopes = ["judge"]\nlimits = {{requests_per_minute = 3}}\n'
    )
    (folder / "secret").write_text("s" * 32)
    kept = {"journal": str(folder / "journal.sqlite"), "secret": str(folder / "secret")}
    return {"registry": str(folder), "policy": str(policy), "keys": str(keys), "backend": ENGINE, "answer": "true", **kept}


@pytest.fixture(scope="module")
def client(arguments: dict[str, Any]) -> Iterator[httpx2.Client]:
    """A client, with the key, of the service on a cluster of this machine's own."""
    (port,) = free_ports(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH", "serve.proxy:middlewares")
        ray.init("local", num_cpus=4, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            ray_serve.run(build(arguments))
            headers = {"Authorization": "Bearer open"}
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:
                yield client
        finally:
            ray_serve.shutdown()
            ray.shutdown()


def test_judgments_come_through_the_proxy_to_those_with_a_key(client: httpx2.Client) -> None:
    models = set()
    for number in range(20):
        answer = client.post("/v1/judgments", json={"input": [f"What is {number}?", QUESTION["input"]]})
        assert answer.status_code == 200, answer.text
        assert [item["verdict"] in ("can", "cannot") for item in answer.json()["data"]] == [True, True]
        models.add(answer.json()["model"])
    assert models == {"kt/one", "kt/two"}
    assert client.post("/v1/judgments", json=QUESTION, headers={"Authorization": "Bearer shut"}).status_code == 401
    assert client.get("/health/ready", headers={"Authorization": ""}).json() == {"status": "ready"}


def test_the_gate_replies_through_the_proxy_in_one_or_as_events(client: httpx2.Client) -> None:
    body = {"model": AUTO, "messages": [{"role": "user", "content": QUESTION["input"]}]}
    whole, events = (client.post("/v1/chat/completions", json={**body, "stream": stream}) for stream in (False, True))
    assert whole.json()["choices"][0]["message"]["content"] == "I do not know."
    assert events.text.endswith("data: [DONE]\n\n")
    for answer in (whole, events):
        assert (answer.status_code, answer.headers["x-kt-decision"]) == (200, "abstain")
    assert client.get("/").headers["content-type"].startswith("text/html")


def test_feedback_is_kept_by_the_ids_that_replicas_share(client: httpx2.Client) -> None:
    name = client.post("/v1/judgments", json=QUESTION).json()["id"]
    told = client.post("/v1/feedback", json={"id": name, "correct": True})
    assert (told.status_code, told.json()["correct"]) == (200, True)


def test_a_limit_holds_for_all_replicas_together(client: httpx2.Client) -> None:
    few = {"Authorization": "Bearer few"}
    assert client.post("/v1/judgments", json=QUESTION, headers=few).status_code == 200
    elsewhere = ray_serve.get_deployment_handle("limits", "default")
    assert [elsewhere.take.remote("few/requests", 3, 1).result() for _ in range(2)] == [0.0, 0.0]
    refused = client.post("/v1/judgments", json=QUESTION, headers=few)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert client.post("/v1/judgments", json=QUESTION).status_code == 200


def test_the_proxy_takes_no_body_that_is_too_long(client: httpx2.Client) -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(MAX_BODY // 2**16 + 1):
            yield b" " * 2**16

    for content in (b" " * (MAX_BODY + 1), pieces()):
        refused = client.post("/v1/judgments", content=content)
        assert (refused.status_code, refused.json()["error"]["code"]) == (413, "body_too_large")
    assert client.get("/health/ready").status_code == 200


def serving(client: httpx2.Client) -> str:
    """The digest of the judge that serves."""
    return str(client.get("/v1/models").json()["data"][0]["judge_digest"])


def test_a_judge_takes_over_by_the_registry_and_a_bad_one_does_not(client: httpx2.Client, registry: Registry) -> None:
    write_judge(registry.judge("one").parent / "bad", card(base_digest="f" * 64), None)
    refused = client.post("/v1/admin/judges/prod", json={"judge": "bad"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "judge_refused")
    before, after = (read_judge(registry.judge(name)).digest[:12] for name in ("one", "three"))
    assert serving(client) == before
    registry.appoint("three")
    deadline = time.monotonic() + PATIENCE
    while serving(client) == before:
        assert time.monotonic() < deadline
        assert client.post("/v1/judgments", json=QUESTION).status_code == 200
    assert serving(client) == after


def replicas() -> list[int]:
    """The processes of the replicas that hold the app."""
    titles = {pid: Path(f"/proc/{pid}/cmdline") for pid in descendants(os.getpid())}
    return [pid for pid, title in titles.items() if title.exists() and b"ServeReplica:default:judgments" in title.read_bytes()]


def is_ready(client: httpx2.Client) -> bool:
    """Whether readiness is told within 2 seconds."""
    try:
        return client.get("/health/ready", timeout=2).status_code == 200
    except httpx2.TransportError:
        return False


def test_a_replica_that_is_killed_comes_back(client: httpx2.Client) -> None:
    (killed,) = replicas()
    os.kill(killed, signal.SIGKILL)
    deadline = time.monotonic() + PATIENCE
    while is_ready(client) and replicas() == [killed]:
        assert time.monotonic() < deadline
    while not (is_ready(client) and killed not in replicas()):
        assert time.monotonic() < deadline
    assert len(replicas()) == 1
    assert client.post("/v1/judgments", json=QUESTION).status_code == 200


def test_a_host_that_others_reach_takes_keys(arguments: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_app, "_host", lambda: "0.0.0.0")
    open_to_all = Settings.model_validate({**arguments, "keys": None, "backend": "nobody:starts"})
    with pytest.raises(ConfigError, match=r"host '0\.0\.0\.0' can be reached from outside, and no keys are set up"):
        Service(open_to_all, None, None, None)


def test_what_is_wrong_with_the_arguments_is_told_at_once(arguments: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="arguments: give either judge=DIR or registry=DIR"):
        build({})
    with pytest.raises(ConfigError, match="jugde: Extra inputs are not permitted"):
        build({**arguments, "jugde": "one"})
    with pytest.raises(JudgeError, match=r"holds no judge\.json"):
        build({"judge": str(tmp_path)})
    with pytest.raises(ConfigError, match="a journal takes a secret that all replicas share"):
        build({**arguments, "secret": None})
    gated = tmp_path / "gated.toml"
    gated.write_text("[default]\nthreshold = 0.5\n[gate]\n")
    with pytest.raises(ConfigError, match="the gate has no model that answers what passes"):
        build({**arguments, "policy": str(gated), "answer": "false"})
    one = str(Path(arguments["registry"]) / "one")
    with pytest.raises(ConfigError, match="two as canary, a judge of a registry: give registry=DIR"):
        build({"judge": one, "policy": arguments["policy"]})
    file = tmp_path / "policy.toml"
    file.write_text('shadow = "gone"\n[default]\nthreshold = 0.5\n')
    with pytest.raises(ConfigError, match="there is no judge gone"):
        build({**arguments, "policy": str(file)})


def test_the_shipped_configuration_is_one_that_ray_serve_takes() -> None:
    told = yaml.safe_load((ROOT / "serve" / "config.yaml").read_text())
    config = ServeDeploySchema.model_validate(told)
    (application,) = config.applications
    assert (config.http_options.host, application.import_path) == ("127.0.0.1", "serve.app:build")
    assert set(application.args) <= set(Settings.model_fields)
    Settings.model_validate(application.args)
    assert {deployment.name for deployment in application.deployments} == {"judgments"}
