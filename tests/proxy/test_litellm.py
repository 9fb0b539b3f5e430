"""The proxy of LiteLLM itself, in an environment of its own, routes by our judge: in each of the ways that it knows.

Judge and completions are fakes; LiteLLM, its configuration and all that goes over the wire are real.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
import time
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fastapi import FastAPI, Request

from know_thyself.asking import Asked
from know_thyself.testing import FakeJudge, fake_confidence
from serve.api import create_app
from serve.auth import Keys
from serve.policy import read_policy
from tests.conftest import PATIENCE
from tests.ray.cluster import ROOT, free_ports
from tests.serve.apps import SURE, UNSURE, running

pytestmark = pytest.mark.slow
LOCK = ROOT / "requirements" / "litellm.txt"
MASTER = "sk-of-a-test"
ROUTERS = ("by-systemone", "by-capability", "by-plugin")
"""The models of the proxy that ask our judge which model is to answer."""


@pytest.fixture(scope="module")
def program() -> Path:
    """The program `litellm`, in an environment that is made once, and again only when its lock changes."""
    digest = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    folder = Path(tempfile.gettempdir()) / f"know-thyself-litellm-{digest}"
    if not (folder / "installed").exists():
        venv.create(folder, clear=True, with_pip=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--no-deps", "--quiet"]
        subprocess.run([*pip, "-r", str(LOCK)], check=True, timeout=PATIENCE)
        (folder / "installed").touch()
    return folder / "bin" / "litellm"


def completions() -> FastAPI:
    """A service of two models whose every answer is the name of the model."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def complete(request: Request) -> dict[str, Any]:
        model = (await request.json())["model"]
        message = {"role": "assistant", "content": model}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return {"id": "a", "object": "chat.completion", "created": 0, "model": model, "choices": [choice], "usage": usage}

    return app


def configuration(judge: str, answering: str) -> dict[str, Any]:
    """Two models that answer, our judge, and a router for each way in which LiteLLM can ask it."""

    def model(name: str, **settings: Any) -> dict[str, Any]:
        return {"model_name": name, "litellm_params": settings}

    def router(name: str, **settings: Any) -> dict[str, Any]:
        tiers = {"SIMPLE": "small", "MEDIUM": "small", "COMPLEX": "large", "REASONING": "large"}
        asked = {"tiers": tiers, "classifier_context_window_size": 0, **settings}
        whole = {"complexity_router_default_model": "large", "complexity_router_config": asked}
        return model(name, model="auto_router/complexity_router", **whole)

    answers = {"api_base": f"{answering}/v1", "api_key": "unused"}
    policy = {"efficient_tier": "SIMPLE", "capable_tier": "REASONING", "base_threshold": 0.5, "threshold_step": 0.0}
    return {
        "model_list": [
            model("small", model="openai/small", **answers),
            model("large", model="openai/large", **answers),
            model("judge", model="openai/kt/fake", api_base=f"{judge}/v1", api_key="unused"),
            model("decider", model="strands_decider/kt/fake", api_base=judge, api_key="unused"),
            router(
                "by-systemone",
                classifier_type="oss_classifier",
                opensource_classifier_config={
                    "provider": "jev",
                    "model": "kt/fake",
                    "api_base": judge,
                    "api_key": "unused",
                    "timeout_ms": 20_000,
                },
            ),
            router(
                "by-capability",
                classifier_type="capability",
                classifier_llm_config={"model": "judge", "timeout_ms": 20_000},
                capability_classifier_config=policy,
            ),
            router(
                "by-plugin",
                classifier_type="custom",
                classifier_plugin="know_thyself.client.integrations.litellm.judge_classifier",
                classifier_plugin_timeout_ms=20_000,
            ),
        ],
        "general_settings": {"master_key": MASTER},
        "litellm_settings": {"telemetry": False},
    }


@pytest.fixture(scope="module")
def judge() -> FakeJudge:
    return FakeJudge()


@pytest.fixture(scope="module")
def proxy(program: Path, judge: FakeJudge, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx2.Client]:
    """A client of the proxy."""
    folder = tmp_path_factory.mktemp("proxy")
    (port,) = free_ports(1)
    with running(create_app(judge, read_policy(), Keys())) as judging, running(completions()) as answering:
        (folder / "config.yaml").write_text(yaml.safe_dump(configuration(judging, answering)))
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "KT_URL": judging,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_LOG": "ERROR",
        }
        command = [str(program), "--config", "config.yaml", "--host", "127.0.0.1", "--port", str(port), "--telemetry", "False"]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
        headers = {"Authorization": f"Bearer {MASTER}"}
        try:
            with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=60) as client:
                await_proxy(client, process, folder / "log")
                yield client
        finally:
            process.terminate()
            process.wait(60)


def await_proxy(client: httpx2.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    """Until the proxy answers."""
    deadline = time.monotonic() + PATIENCE
    while True:
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < deadline
        try:
            if client.get("/health/liveliness").status_code == 200:
                return
        except httpx2.TransportError:
            time.sleep(0.5)


def answer(proxy: httpx2.Client, model: str, question: str) -> str:
    """Which model answered `question`."""
    body = {"model": model, "messages": [{"role": "user", "content": question}]}
    told = proxy.post("/v1/chat/completions", json=body)
    assert told.status_code == 200, told.text
    return str(told.json()["choices"][0]["message"]["content"])


@pytest.mark.parametrize("router", ROUTERS)
def test_what_the_judge_is_sure_of_goes_to_the_small_model_and_the_rest_to_the_large(
    proxy: httpx2.Client, judge: FakeJudge, router: str
) -> None:
    judge.asked.clear()
    answers = [answer(proxy, router, question) for question in (SURE, UNSURE)]
    assert [asked[0].text for asked in judge.asked] == [SURE, UNSURE]
    assert answers == ["small", "large"]


def test_the_preview_says_which_model_and_that_a_classifier_decided(proxy: httpx2.Client) -> None:
    whole = configuration("http://127.0.0.1:9", "http://127.0.0.1:9")
    asked = next(one for one in whole["model_list"] if one["model_name"] == "by-systemone")["litellm_params"]
    told = proxy.post(
        "/auto_router/test_routing",
        json={"prompt": SURE, "complexity_router_config": asked["complexity_router_config"], "default_model": "large"},
    )
    assert told.status_code == 200, told.text


def test_a_judge_that_fails_leaves_it_to_the_default_of_litellm(proxy: httpx2.Client, judge: FakeJudge) -> None:
    judge.failure = RuntimeError("down")
    try:
        assert answer(proxy, "by-capability", SURE) == "large"
    finally:
        judge.failure = None


def test_decisions_pass_through_the_proxy_in_both_formats(proxy: httpx2.Client) -> None:
    sure = fake_confidence(Asked(text=SURE))
    question = {"type": "noul", "instructions": "Can the model answer this?"}
    told = proxy.post("/v1/systemone", json={"model": "decider", "state": SURE, "questions": {"can_answer": question}})
    assert told.status_code == 200, told.text
    assert told.json()["answers"]["can_answer"]["noul"] == pytest.approx(sure, abs=1e-6)
    predicate = {"type": "predicate", "name": "can_answer", "instructions": "Can the model answer this?"}
    told = proxy.post("/v1/decisions", json={"model": "judge", "input": SURE, "questions": [predicate]})
    assert told.status_code == 200, told.text
    assert told.json()["answers"][0]["probability"] == pytest.approx(sure, abs=1e-6)
