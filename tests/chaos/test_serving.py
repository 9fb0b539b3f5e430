"""The service while judges change and replicas die: `make chaos`. Rows 14 and 15 of the table of faults; figures are told."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import ray
from ray import serve as ray_serve
from ray.serve.context import _get_global_client
from ray.serve.schema import ServeDeploySchema
from safetensors.torch import load_file, save_file

from benchmarks.load import closed, opened, over_http
from benchmarks.models import world_model, world_questions
from benchmarks.service import free_port, is_ready, serving, untrained_card
from know_thyself.client import AsyncKnowThyself
from know_thyself.judge import write_judge
from serve.registry import Registry
from serve.routes.admin import PATH as APPOINT
from tests.conftest import PATIENCE
from tests.ray.cluster import ROOT, descendants
from tests.serve.front import before

SWAPS, REPLICAS, KILLS, REST = 100, 3, 10, 10.0
"""Orders to swap; replicas, and how many are killed; seconds that pass between two deaths once all are back."""
QUESTIONS = [question.text for question in world_questions(4)]
CLOSE = 1e-4
"""How far apart what one judge says of one question may lie: it is judged among others."""


def trained(folder: Path, scale: float) -> Path:
    """A fully tuned model in `folder`: the base with a final norm of another `scale`."""
    base = Path(world_model())
    (folder / "model").mkdir(parents=True)
    weights = load_file(base / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"] * scale
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    (folder / "model" / "config.json").write_bytes((base / "config.json").read_bytes())
    return folder


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two judges that can take turns, and four that must not serve."""
    folder, tuned = tmp_path / "registry", {"tuning": "full"}
    base = world_model()

    def write(name: str, scale: float | None = None, **changes: Any) -> None:
        card = untrained_card(base, experiment=name, **(tuned if scale is not None else {}), **changes)
        write_judge(folder / name, card, None if scale is None else trained(tmp_path / name, scale))

    write("one")
    write("two", 0.5)
    write("no-numbers", float("nan"))
    write("other-base", base_digest="f" * 64)
    write("other-words", verdict_tokens=(1, 2))
    write("changed", 0.7)
    weights = folder / "changed" / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    found = Registry(folder)
    found.appoint("one")
    return found


def test_judges_take_turns_under_load_and_bad_ones_never_serve(registry: Registry, tmp_path: Path) -> None:
    good = itertools.cycle(("two", "one"))
    bad = itertools.cycle(("no-numbers", "other-base", "other-words", "changed"))
    said: dict[str, list[list[float]]] = defaultdict(list)
    statuses, orders = Counter[int](), Counter[int]()

    async def scene(url: str) -> None:
        async with aiohttp.ClientSession(url) as session:
            at_work = True

            async def caller() -> None:
                while at_work:
                    async with session.post("/v1/judgments", json={"input": QUESTIONS}) as answer:
                        statuses[answer.status] += 1
                        told = await answer.json()
                        if answer.status == 200:
                            said[told["judge_digest"]].append([item["p_correct"] for item in told["data"]])

            async def order(name: str) -> None:
                async with session.post(APPOINT, json={"judge": name}) as answer:
                    orders[answer.status] += 1
                    assert (answer.status == 200) == (name in ("one", "two")), await answer.text()

            callers = [asyncio.create_task(caller()) for _ in range(4)]
            for number in range(SWAPS):
                await order(next(good))
                if number % 5 == 4:
                    await order(next(bad))
            at_work = False
            await asyncio.gather(*callers)

    with serving("--registry", registry.judge("one").parent, log=tmp_path / "log") as (url, _):
        asyncio.run(scene(url))
    print(f"\n{sum(statuses.values())} requests of {len(QUESTIONS)} questions: {dict(statuses)}; orders {dict(orders)}")
    assert set(statuses) == {200}
    assert orders == {200: SWAPS, 409: SWAPS // 5}
    assert len(said) == 2
    for answers in said.values():
        for answer in answers:
            assert answer == pytest.approx(answers[0], abs=CLOSE), "an answer holds what another judge says"
    first, second = (answers[0] for answers in said.values())
    assert first != pytest.approx(second, abs=10 * CLOSE)


@pytest.fixture
def replicated(tmp_path: Path) -> Iterator[str]:
    """The address of a service of `REPLICAS` on Ray Serve, whose engines only pretend."""
    write_judge(tmp_path / "judge", untrained_card(world_model()), None)
    port = free_port()
    application = {
        "name": "default",
        "route_prefix": "/",
        "import_path": "serve.app:build",
        "args": {"judge": str(tmp_path / "judge"), "backend": "tests.chaos.engines:SlowEngine"},
        "deployments": [{"name": "judgments", "num_replicas": REPLICAS}],
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        ray.init("local", num_cpus=2 * REPLICAS, include_dashboard=False, log_to_driver=False, configure_logging=False)
        try:
            ray_serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})
            client = _get_global_client()
            assert client is not None
            client.deploy_apps(ServeDeploySchema.model_validate({"applications": [application]}), _blocking=True)
            yield f"http://127.0.0.1:{port}"
        finally:
            ray_serve.shutdown()
            ray.shutdown()


def replicas() -> list[int]:
    """The processes of the replicas that hold the app."""
    titles = {pid: Path(f"/proc/{pid}/cmdline") for pid in descendants(os.getpid())}
    return [pid for pid, title in titles.items() if title.exists() and b"ServeReplica:default:judgments" in title.read_bytes()]


def all_serve() -> bool:
    """Whether Ray Serve counts as many replicas that run as there are to be."""
    return ray_serve.status().applications["default"].deployments["judgments"].replica_states == {"RUNNING": REPLICAS}


async def until_serving(everyone: bool) -> None:
    """Wait until all replicas serve, or until Ray Serve has seen that not all do."""
    deadline = time.monotonic() + PATIENCE
    while await asyncio.to_thread(all_serve) != everyone:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.2)


def test_replicas_that_are_killed_take_nothing_along(replicated: str) -> None:
    texts = itertools.cycle(QUESTIONS)
    told, red, deaths = Counter[str](), [0.0], list[float]()

    async def scene(front: str) -> None:
        await until_serving(everyone=True)
        at_work = True

        async def raw(asked: Sequence[str]) -> int:
            """Asks the front proxy once, and counts what came of it."""
            judged = 0
            try:
                judged = await ask(asked)
                told["answered" if judged else "refused"] += 1
            except aiohttp.ClientError:
                told["lost"] += 1
            return judged

        async def patient() -> None:
            """Asks Ray Serve as our own client does, which tries again; whatever it cannot do is raised here."""
            async with AsyncKnowThyself(replicated) as client:
                while at_work:
                    await client.judge(next(texts))
                    told["by the client"] += 1
                    await asyncio.sleep(0.05)

        async def readiness() -> None:
            while at_work:
                began = time.monotonic()
                while not await asyncio.to_thread(is_ready, replicated):
                    await asyncio.sleep(0.1)
                red.append(time.monotonic() - began)
                await asyncio.sleep(0.1)

        async def killer() -> None:
            for _ in range(KILLS):
                await asyncio.sleep(REST)
                os.kill(min(replicas()), signal.SIGKILL)
                began = time.monotonic()
                await until_serving(everyone=False)
                await until_serving(everyone=True)
                deaths.append(time.monotonic() - began)

        async with over_http(front) as ask:
            capacity = (await closed(ask, texts, 16, 10.0)).pace
            watching = [asyncio.create_task(work()) for work in (patient, readiness)]
            killing = asyncio.create_task(killer())
            while not killing.done():
                await opened(raw, texts, capacity / 2, 5.0, seed=len(deaths))
            await killing
            at_work = False
            await asyncio.gather(*watching)

    with before(replicated) as front:
        asyncio.run(scene(front))
    share = told["answered"] / (told["answered"] + told["refused"] + told["lost"])
    print(f"\n{KILLS} replicas killed, back after {max(deaths):.1f} s at most; {dict(told)}: {share:.4%} answered; ", end="")
    print(f"not ready for {max(red):.1f} s at most")
    assert share >= 0.999
    assert max(red) <= 10
