"""Judges beside the one that serves: a canary takes its share and no more, a shadow is heard and never used."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx2
import pytest

from know_thyself.asking import Asked, Opinion, Refusal
from know_thyself.errors import ConfigError, EngineError, JudgeError
from know_thyself.testing import FakeAnswerer, FakeJudge, fake_card
from know_thyself.wire import Bar
from serve import shadow
from serve.api import create_app
from serve.auth import Keys
from serve.policy import Canary, Policy, read_policy
from serve.serving import Others, place
from serve.startup import check_alone
from tests.serve.apps import ROUTE, SURE, UNSURE, post, served


def canary(share: float, judge: FakeJudge | None = None) -> Others:
    return Others(canary=judge or FakeJudge(fake_card(experiment="new", max_model_len=99)), share=share)


def metric(text: str, start: str) -> float:
    """The value of the metric in `text` whose line begins with `start`."""
    return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(start)), 0.0)


def test_a_canary_takes_its_share_by_what_is_asked() -> None:
    client = served(others=canary(0.25))
    asked = [{"input": f"What is thing {i}?"} for i in range(120)]
    answers = [post(client, body).json() for body in asked]
    models = [answer["model"] for answer in answers]
    assert 15 < models.count("kt/new") < 45
    assert models.count("kt/new") + models.count("kt/fake") == 120
    assert [post(client, body).json()["model"] for body in asked[:30]] == models[:30]
    digests = {answer["model"]: answer["judge_digest"] for answer in answers}
    assert digests["kt/new"] != digests["kt/fake"]
    counted = client.get("/metrics").text
    assert metric(counted, 'kt_judge_requests_total{role="canary"}') == models.count("kt/new") + models[:30].count("kt/new")
    assert [model["id"] for model in client.get("/v1/models").json()["data"]] == ["kt/fake", "kt/new"]


@pytest.mark.parametrize("name", ["kt/fake", "kt/prod"])
def test_a_canary_stands_for_the_judge_that_is_asked_by_name(name: str) -> None:
    client = served(others=canary(0.5))
    asked = [{"input": f"What is thing {i}?", "model": name} for i in range(20)]
    assert {post(client, body).json()["model"] for body in asked} == {"kt/fake", "kt/new"}


def test_a_canary_that_failed_is_not_asked() -> None:
    sick = FakeJudge()
    client = served(others=canary(0.999, sick))
    assert post(client, {"input": SURE}).status_code == 200
    assert len(sick.asked) == 1
    sick.failure = EngineError("out of memory")
    assert post(client, {"input": SURE}).status_code == 200
    assert client.get("/health/ready").status_code == 200
    assert len(sick.asked) == 1


def test_a_canary_that_cannot_keep_the_policy_does_not_start() -> None:
    with pytest.raises(ConfigError, match="not reachable"):
        served(policy=Policy(default=Bar(target_accuracy=0.9)), others=canary(0.5, FakeJudge(fake_card(thresholds=()))))


def test_a_canary_of_another_model_does_not_start_where_one_answers() -> None:
    whole = fake_card(files={"model/model.safetensors": "f" * 64})
    served(others=canary(0.5, FakeJudge(whole)))
    with pytest.raises(JudgeError, match="of another model than the one that answers here"):
        served(answerer=FakeAnswerer(), others=canary(0.5, FakeJudge(whole)))


def test_only_what_asks_for_a_judgment_counts_as_asked_of_a_judge() -> None:
    client = served(others=canary(0.5))
    client.post("/v1/feedback", json={"id": "jdg-none", "correct": True})
    for path in ("/v1/models", "/health/ready"):
        client.get(path)
    assert "kt_judge_requests_total{" not in client.get("/metrics").text


def test_places_are_spread_evenly() -> None:
    places = [place(f"{i}".encode()) for i in range(1000)]
    assert all(0 <= one < 1 for one in places)
    assert all(70 < sum(tenth <= 10 * one < tenth + 1 for one in places) < 130 for tenth in range(10))


class Contrary(FakeJudge):
    """A shadow that hears when it is let, and says the contrary of `SURE` and `UNSURE`."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    async def judge(self, asked: Sequence[Asked]) -> list[Opinion | Refusal]:
        await self.gate.wait()
        return await super().judge([Asked(text={SURE: UNSURE, UNSURE: SURE}.get(one.text, one.text)) for one in asked])


def listened(hearing: Contrary, *inputs: object) -> str:
    """The metrics after `inputs` were asked, one by one, with all answered before the shadow hears any."""

    async def scene() -> str:
        app = create_app(FakeJudge(), read_policy(), Keys(), others=Others(shadow=hearing))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://service") as client:
            for one in inputs:
                answer = await client.post(ROUTE, json={"input": one})
                assert answer.status_code == 200
                assert [item["verdict"] for item in answer.json()["data"] if SURE in (one, "")] in ([], ["can"])
            hearing.gate.set()
            while others := asyncio.all_tasks() - {asyncio.current_task()}:
                await asyncio.wait(others)
            return (await client.get("/metrics")).text

    return asyncio.run(scene())


def test_a_shadow_is_counted_and_never_used() -> None:
    text = listened(Contrary(), SURE, "Who is it?", [SURE, UNSURE])
    assert metric(text, 'kt_shadow_total{outcome="differs"}') == 3
    assert metric(text, 'kt_shadow_total{outcome="same"}') == 1
    assert metric(text, "kt_shadow_difference_count") == 4
    assert metric(text, 'kt_shadow_difference_bucket{le="0.1"}') == 1
    assert metric(text, 'kt_judgments_total{decision="answer",verdict="can"}') >= 2


def test_a_shadow_that_fails_spoils_nothing(caplog: pytest.LogCaptureFixture) -> None:
    hearing = Contrary()
    hearing.failure = EngineError("out of memory")
    assert metric(listened(hearing, SURE, [SURE, UNSURE]), 'kt_shadow_total{outcome="skipped"}') == 3
    assert "the shadow judge failed: out of memory" in caplog.text
    assert SURE not in caplog.text


def test_a_shadow_that_is_slow_is_not_waited_for_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadow, "WAITING", 2)
    hearing = Contrary()
    assert metric(listened(hearing, *[SURE] * 5), 'kt_shadow_total{outcome="skipped"}') == 3
    assert len(hearing.asked) == 2


def test_one_engine_on_a_cpu_holds_one_judge(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('shadow = "new"\n[default]\nthreshold = 0.5\n[canary]\njudge = "newer"\nshare = 0.1\n')
    policy = read_policy(file)
    assert (policy.shadow, policy.canary) == ("new", Canary(judge="newer", share=0.1))
    for wanted, one in (("a shadow", {"canary": None}), ("a canary", {"shadow": None})):
        with pytest.raises(ConfigError, match=rf"{wanted}: not on CPU.*serve run serve\.app:build"):
            check_alone(policy.model_copy(update=one))
    check_alone(read_policy())
    file.write_text('shadow = "../new"\n[default]\nthreshold = 0.5\n')
    with pytest.raises(ConfigError, match="shadow: String should match"):
        read_policy(file)
