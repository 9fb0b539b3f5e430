"""Judges change under load: nothing is lost or mixed, a bad one never serves, and names are held to the registry."""

from __future__ import annotations

import asyncio
import os
import random
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from know_thyself.asking import Asked, Opinion
from know_thyself.errors import ConfigError, EngineError, JudgeError
from know_thyself.judge import JudgeCard, read_judge, write_judge
from know_thyself.testing import FakeAnswerer, FakeJudge, fake_card
from know_thyself.wire import AUTO
from serve import following
from serve.api import create_app
from serve.auth import Keys
from serve.batching import Said
from serve.journal import Journal
from serve.judging import Judge
from serve.local import BatchingJudge, batching
from serve.metrics import Meter
from serve.policy import Kept, read_policy
from serve.registry import Registry, Successors, is_name
from serve.routes.admin import PATH
from serve.routes.chat import PATH as CHAT
from serve.service import Backing
from serve.serving import Others
from tests.serve.apps import KEYS, ROUTE, SURE, bearer, decisions, systemone

BODIES: dict[str, Any] = {
    ROUTE: {"input": SURE},
    "/v1/systemone": {**systemone(), "model": "kt/prod"},
    "/v1/decisions": {**decisions(), "model": "kt/prod"},
    CHAT: {"model": AUTO, "messages": [{"role": "user", "content": SURE}]},
}
"""What each route that judges can be asked, whoever serves."""
SURENESS = {"one": 0.1, "two": 0.2, "three": 0.3}
"""What the judge of each name says of everything."""


class Named(FakeJudge):
    """A judge whose every opinion tells its name, and that can be held up and made to fail."""

    def __init__(self, card: JudgeCard) -> None:
        super().__init__(card)
        self.gate, self.entered = threading.Event(), threading.Event()
        self.gate.set()

    def judge_each(self, asked: Sequence[Asked]) -> Said:
        self.entered.set()
        assert self.gate.wait(10)
        if self.card.experiment not in SURENESS:
            raise EngineError("reads no number at the verdict words")
        told = SURENESS[self.card.experiment]
        return [replace(one, p_correct=told) for one in super().judge_each(asked) if isinstance(one, Opinion)]


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry of the judges one, two, three, and of `mad`, which fails as soon as it judges; `one` serves."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    for number, name in enumerate((*SURENESS, "mad")):
        card = fake_card(experiment=name, base=str(base), max_model_len=256 + number)
        write_judge(tmp_path / "registry" / name, card, None)
    found = Registry(tmp_path / "registry")
    found.appoint("one")
    return found


Scene = Callable[[httpx2.AsyncClient, FastAPI, list[Named]], Awaitable[None]]


def play(registry: Registry, scene: Scene, keys: Keys | None = None, **settings: Any) -> None:
    """Play `scene` with a client of a service of `registry`, its app, and the judges that were loaded."""
    judges = [Named(read_judge(registry.judge(registry.appointed.name)))]

    def load(folder: Path) -> Named:
        judges.append(Named(read_judge(folder)))
        return judges[-1]

    async def run(first: BatchingJudge[Named]) -> None:
        async def ready(folder: Path) -> Judge:
            return await first.successor(lambda _: load(folder))

        others = Others(successors=Successors(registry, ready))
        app = create_app(first, read_policy(), keys or Keys(), others=others, **settings)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://service") as client:
            await scene(client, app, judges)

    with batching(lambda: judges[0]) as first:
        asyncio.run(run(first))


def swapped(text: str) -> dict[str, float]:
    """How many swaps the metrics in `text` tell of, by outcome."""
    lines = [line for line in text.splitlines() if line.startswith("kt_swaps_total")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in lines}


def test_ten_swaps_under_load_lose_nothing_and_mix_nothing(registry: Registry) -> None:
    digests = {read_judge(registry.judge(name)).digest[:12]: sure for name, sure in SURENESS.items()}
    told: list[tuple[str, float]] = []

    async def ask(client: httpx2.AsyncClient, caller: int) -> None:
        for turn in range(10_000):
            answer = await client.post(ROUTE, json={"input": [f"What is {caller} {turn} {i}?" for i in range(caller + 1)]})
            assert answer.status_code == 200, answer.text
            said = answer.json()
            told.extend((said["judge_digest"], one["p_correct"]) for one in said["data"])

    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        callers = [asyncio.create_task(ask(client, caller)) for caller in range(8)]
        for turn in range(10):
            name = list(SURENESS)[(turn + 1) % 3]
            before = len(told)
            answer = await client.post(PATH, json={"judge": name})
            assert (answer.status_code, answer.json()["judge"]) == (200, name)
            while len(told) < before + 50:
                await asyncio.sleep(0)
        for caller in callers:
            assert not caller.done()
            caller.cancel()
            with suppress(asyncio.CancelledError):
                await caller
        assert swapped((await client.get("/metrics")).text) == {"done": 10.0}

    play(registry, scene)
    assert {digests[digest] for digest, _ in told} == set(SURENESS.values())
    assert all(digests[digest] == sure for digest, sure in told)
    assert registry.appointed.name == "two"


def test_a_request_that_came_before_ends_on_the_judge_before(registry: Registry) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        (first,) = judges
        first.gate.clear()
        asked = [asyncio.create_task(client.post(ROUTE, json={"input": SURE}))]
        assert await asyncio.to_thread(first.entered.wait, 10)
        asked.append(asyncio.create_task(client.post(ROUTE, json={"input": "Who waits?"})))
        change = asyncio.create_task(client.post(PATH, json={"judge": "two"}))
        while len(judges) < 2:
            await asyncio.sleep(0)
        first.gate.set()
        assert (await change).json() == {
            "object": "judge",
            "judge": "two",
            "model": "kt/two",
            "judge_digest": judges[1].card.digest[:12],
        }
        assert [(await one).json()["model"] for one in asked] == ["kt/one", "kt/one"]
        answer = (await client.post(ROUTE, json={"input": SURE})).json()
        assert (answer["model"], answer["data"][0]["p_correct"]) == ("kt/two", 0.2)
        assert (await client.get("/v1/models")).json()["data"][0]["id"] == "kt/two"

    play(registry, scene)


@pytest.mark.parametrize(("path", "body"), BODIES.items(), ids=list(BODIES))
def test_an_id_and_the_journal_tell_which_judge_answered(registry: Registry, tmp_path: Path, path: str, body: Any) -> None:
    file = tmp_path / "journal.sqlite"
    meter = Meter()
    digests = [read_judge(registry.judge(name)).digest[:12] for name in ("one", "two")]

    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        (first,) = judges
        first.gate.clear()
        answers = [asyncio.create_task(client.post(path, json=body))]
        assert await asyncio.to_thread(first.entered.wait, 10)
        change = asyncio.create_task(client.post(PATH, json={"judge": "two"}))
        while len(judges) < 2:
            await asyncio.sleep(0)
        first.gate.set()
        assert (await change).status_code == 200
        answers.append(asyncio.create_task(client.post(path, json=body)))
        for answer, digest in zip([await one for one in answers], digests, strict=True):
            assert answer.status_code == 200, answer.text
            name = answer.headers.get("x-kt-judgment-id") or answer.json()["id"]
            judged = backing.signer.read("-", name)
            assert judged is not None
            assert judged.judge == digest
            told = await client.post("/v1/feedback", json={"id": name, "correct": True})
            assert told.status_code == 200, told.text

    with Journal(file, Kept(), meter) as journal:
        backing = Backing(meter=meter, journal=journal)
        play(registry, scene, backing=backing, answerer=FakeAnswerer())
    with closing(sqlite3.connect(file)) as database:
        assert [row[0] for row in database.execute("SELECT judge FROM scores ORDER BY rowid")] == digests
        assert {row[0] for row in database.execute("SELECT judge FROM feedback")} == set(digests)


def test_the_gate_answers_as_before_while_judges_change(registry: Registry) -> None:
    answerer = FakeAnswerer()

    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        for name in ("one", "two"):
            await client.post(PATH, json={"judge": name})
            answer = await client.post(CHAT, json={"model": AUTO, "messages": [{"role": "user", "content": SURE}]})
            assert answer.headers["x-kt-p-correct"] == str(SURENESS[name])
            assert answer.json()["choices"][0]["message"]["content"] == "I do not know."
        whole = read_judge(registry.judge("two")).model_copy(update={"files": {"model/model.safetensors": "f" * 64}})
        with pytest.raises(JudgeError, match="of another model than the one that answers here"):
            app.state.serving.prepare(FakeJudge(whole))

    play(registry, scene, answerer=answerer)
    assert answerer.asked == []


def test_whoever_serves_can_be_asked_by_one_name(registry: Registry) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        for name in ("one", "two"):
            await client.post(PATH, json={"judge": name})
            asked = {"input": SURE, "model": "kt/prod"}
            assert (await client.post(ROUTE, json=asked)).json()["model"] == f"kt/{name}"
        assert (await client.post(ROUTE, json={"input": SURE, "model": "kt/one"})).status_code == 404

    play(registry, scene)


def test_a_judge_that_fails_at_once_never_serves(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        answer = await client.post(PATH, json={"judge": "mad"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (409, "judge_refused")
        assert "the one before serves on: reads no number" in answer.json()["error"]["message"]
        assert "judge 'mad' is refused" in caplog.text
        assert (await client.post(ROUTE, json={"input": SURE})).json()["model"] == "kt/one"
        assert (await client.get("/health/ready")).status_code == 200
        assert swapped((await client.get("/metrics")).text) == {"refused": 1.0}

    play(registry, scene)
    assert registry.appointed.name == "one"


def test_a_judge_that_cannot_keep_the_policy_is_refused(registry: Registry, tmp_path: Path) -> None:
    card = read_judge(registry.judge("two"))
    write_judge(tmp_path / "registry" / "four", card.model_copy(update={"experiment": "two", "thresholds": ()}), None)
    strict = tmp_path / "strict.toml"
    strict.write_text("[default]\ntarget_accuracy = 0.8\n")
    judge = FakeJudge()

    async def ready(folder: Path) -> Judge:
        return FakeJudge(read_judge(folder))

    async def scene() -> None:
        app = create_app(judge, read_policy(strict), Keys(), others=Others(successors=Successors(registry, ready)))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
            assert (await client.post(PATH, json={"judge": "two"})).status_code == 200
            answer = await client.post(PATH, json={"judge": "four"})
            assert "target_accuracy=0.8 is not reachable" in answer.json()["error"]["message"]
            assert (await client.get("/v1/models")).json()["data"][0]["id"] == "kt/two"

    asyncio.run(scene())


def named(registry: Registry, text: str) -> None:
    """Let `prod` say `text`, later than it said anything before."""
    alias = registry.judge("one").parent / "prod"
    now = alias.stat().st_mtime_ns
    alias.write_text(text)
    os.utime(alias, ns=(now + 1, now + 1))


def test_the_service_follows_what_the_registry_names(registry: Registry, caplog: pytest.LogCaptureFixture) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        async def serving() -> str:
            await app.state.succession.look()
            return str((await client.post(ROUTE, json={"input": SURE})).json()["model"])

        assert await serving() == "kt/one"
        assert len(judges) == 1
        named(registry, "two\n")
        assert [await serving(), await serving()] == ["kt/two", "kt/two"]
        assert len(judges) == 2
        for text in ("mad", "../one", "", "four"):
            caplog.clear()
            named(registry, text)
            assert [await serving(), await serving()] == ["kt/two", "kt/two"]
            assert caplog.text.count("is refused") == 1, text
        (registry.judge("one").parent / "prod").unlink()
        assert await serving() == "kt/two"
        named_again = registry.appoint("three")
        assert named_again.name == "three"
        assert await serving() == "kt/three"
        assert swapped((await client.get("/metrics")).text) == {"done": 2.0, "refused": 5.0}

    play(registry, scene)


def test_the_service_looks_at_the_registry_for_as_long_as_it_lives(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PERIOD", 0.01)

    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        async with app.router.lifespan_context(app):
            named(registry, "three")
            async with asyncio.timeout(10):
                while (await client.post(ROUTE, json={"input": SURE})).json()["model"] != "kt/three":
                    await asyncio.sleep(0.01)
        named(registry, "two")
        await asyncio.sleep(0.05)
        assert app.state.serving.prod.model == "kt/three"

    play(registry, scene)


def hostile() -> list[str]:
    """Two hundred names that are none: ways out of the folder, and what else a path, a shell or a log might trip over."""
    escapes = ["", "a" * 65, "a" * 4096, *" one;one ;one two;..;.;-one;_one;.one;prod".split(";")]
    escapes += r"../one /etc/passwd one/.. one/../two one/ %2e%2e/one one%2f ..\one C:one one:two ~ * o?e {} $(id) `id`".split()
    escapes += ["one\n", "\none", "one\0", "one;rm -rf", "ｏne", "one\u2024\u2024", "\u2025/one", "o\u0301ne", "one\u200b"]
    draw = random.Random(24)
    odd = "/\\:;%\n\r\t \0~$&|<>*?'\"`(){}[]\u2024\uff0e\u2215é東"
    while len(escapes) < 200:
        escapes.append("".join(draw.choices("one.." + odd, k=draw.randint(1, 30))) + draw.choice(odd))
    return escapes


def test_names_that_are_none_are_refused_and_lead_nowhere(registry: Registry) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        for name in hostile():
            answer = await client.post(PATH, json={"judge": name})
            assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_name"), name
            with pytest.raises(ConfigError):
                registry.judge(name)
            with pytest.raises(ConfigError):
                registry.appoint(name)
        answer = await client.post(PATH, json={"judge": "four"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "judge_not_found")
        assert len(judges) == 1

    play(registry, scene)
    assert len(hostile()) == 200
    assert not any(map(is_name, hostile()))
    assert all(map(is_name, ("one", "a", "A-1_b.c", "world-2.1", "0", "a" * 64)))
    assert registry.names == ["mad", "one", "three", "two"]


def test_only_an_admin_may_appoint(registry: Registry) -> None:
    async def scene(client: httpx2.AsyncClient, app: FastAPI, judges: list[Named]) -> None:
        statuses: dict[str, Any] = {}
        for holder in ("judge", "feedback", "ended", "nobody", "admin", "all"):
            statuses[holder] = (await client.post(PATH, json={"judge": "two"}, headers=bearer(holder))).status_code
        assert statuses == {"judge": 403, "feedback": 403, "ended": 401, "nobody": 401, "admin": 200, "all": 200}
        assert (await client.post(PATH, json={"judge": "two"})).status_code == 401

    play(registry, scene, KEYS)
