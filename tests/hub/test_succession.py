"""Judges that are not sound never take over: real folders, read by a real tokenizer, on one engine that only pretends."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from know_thyself.client import local
from know_thyself.client.local import LocalJudge
from know_thyself.engine.protocol import Chat, EngineSpec
from know_thyself.judge import CARD, JudgeCard, read_judge, write_judge
from know_thyself.models import resolve_model
from know_thyself.testing import FakeEngine, untrained_card
from serve.registry import Registry
from serve.routes.admin import PATH
from serve.service import Backing
from serve.startup import Settings, app_of, read_plan, started

BASE = Path(resolve_model("world", None).name)


class Blind(FakeEngine):
    """An engine that reads no number once it has loaded other weights than the base's."""

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        read = super().judge(chats, words)
        return read * np.nan if self._is_tuned else read


def card(**changes: Any) -> JudgeCard:
    """The card of the untrained judge of the packaged world, with `changes`."""
    settings = {"tuning": "full", "decoding": {"max_tokens": 12, "temperature": 1.0}}
    return untrained_card("world", **{**settings, **changes})


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A registry in which `one` serves."""
    found = Registry(tmp_path / "registry")
    write_judge(tmp_path / "registry" / "one", card(), None)
    found.appoint("one")
    return found


def trained(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A checkpoint in `folder` with the base's weights after `change`."""
    (folder / "model").mkdir(parents=True)
    weights = load_file(BASE / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model" / "model.safetensors", {"format": "pt"})
    (folder / "model" / "config.json").write_bytes((BASE / "config.json").read_bytes())
    return folder


def not_a_number(weights: dict[str, Any]) -> None:
    weights["model.norm.weight"] = weights["model.norm.weight"] * torch.nan


def other_vocabulary(weights: dict[str, Any]) -> None:
    weights["model.embed_tokens.weight"] = weights["model.embed_tokens.weight"][:-3].clone()


def written(folder: Path, changes: dict[str, Any]) -> None:
    write_judge(folder, card(**changes), None)


def changed(folder: Path, _: Any) -> None:
    write_judge(folder, card(), None)
    (folder / "tokenizer.json").write_bytes((folder / "tokenizer.json").read_bytes() + b"\n")


def torn(folder: Path, _: Any) -> None:
    write_judge(folder, card(), None)
    (folder / CARD).write_text((folder / CARD).read_text()[:100])


def pretended(folder: Path, changes: dict[str, Any]) -> None:
    """A card that was changed by hand: its base is the one that it was trained on, it says."""
    write_judge(folder, card(), None)
    told = json.loads((folder / CARD).read_text())
    (folder / CARD).write_text(json.dumps({**told, **changes}))


def taught(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    write_judge(folder, card(), trained(folder.parent.parent / "trained", change))


BAD: dict[str, tuple[Callable[[Path, Any], None], Any, str]] = {
    "NaN": (taught, not_a_number, "no finite numbers (model.norm.weight)"),
    "wrong vocabulary": (taught, other_vocabulary, "model.embed_tokens.weight has another size"),
    "reads no number": (taught, lambda weights: None, "reads no number at the verdict words"),
    "wrong verdict tokens": (written, {"verdict_tokens": (7, 8)}, "another vocabulary"),
    "wrong base": (written, {"base_digest": "f" * 64}, "base_digest='ffff"),
    "other template": (pretended, {"encoding": "f" * 64}, "encoding='ffff"),
    "other decoding": (written, {"decoding": {"max_tokens": 12, "temperature": 0.5}}, "decoding={'max_tokens': 12"),
    "longer": (written, {"max_model_len": 4096}, "its engine was started for 128"),
    "other prompts": (written, {"prompt_version": "judge-0"}, "was trained on prompts judge-0"),
    "bad sha": (changed, None, "'tokenizer.json' is not as the judge was written"),
    "torn": (torn, None, "is damaged"),
}


@pytest.mark.parametrize(("write", "how", "fault"), BAD.values(), ids=BAD)
def test_a_judge_that_is_not_sound_never_serves(
    registry: Registry,
    write: Callable[[Path, Any], None],
    how: Any,
    fault: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(local, "load_engine_factory", lambda _: Blind)
    one = registry.judge("one")
    write(one.parent / "bad", how)
    plan = read_plan(Settings(registry=one.parent))
    with started(plan.folder) as first, TestClient(app_of(plan, first, Backing()), "http://127.0.0.1") as client:
        refused = client.post(PATH, json={"judge": "bad"})
        assert refused.status_code == 409, refused.text
        assert fault in refused.json()["error"]["message"]
        assert fault in caplog.text
        assert 'kt_swaps_total{outcome="refused"} 1.0' in client.get("/metrics").text
        answer = client.post("/v1/judgments", json={"input": "Where was Sisun Nosix born?"})
        assert (answer.status_code, answer.json()["judge_digest"]) == (200, read_judge(one).digest[:12])
    assert registry.appointed.name == "one"


def test_a_sound_judge_takes_over_on_the_same_engine(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    engines: list[FakeEngine] = []

    def start(spec: EngineSpec) -> FakeEngine:
        engines.append(FakeEngine(spec))
        return engines[-1]

    monkeypatch.setattr(local, "load_engine_factory", lambda _: start)
    one = registry.judge("one")
    write_judge(one.parent / "two", card(), trained(one.parent.parent / "trained", lambda weights: None))
    plan = read_plan(Settings(registry=one.parent))
    with started(plan.folder) as first, TestClient(app_of(plan, first, Backing()), "http://127.0.0.1") as client:
        assert client.post(PATH, json={"judge": "two"}).status_code == 200
        answer = client.post("/v1/judgments", json={"input": "Where was Sisun Nosix born?"}).json()
    assert answer["judge_digest"] == read_judge(registry.judge("two")).digest[:12] != read_judge(one).digest[:12]
    assert len(engines) == 1
    assert engines[0]._model.name == str(registry.judge("two") / "model")


def test_what_a_judge_needs_on_disk_goes_with_it(registry: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(local, "load_engine_factory", lambda _: FakeEngine)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()
    first = LocalJudge(registry.judge("one"))
    beside = LocalJudge(registry.judge("one"), beside=first)
    assert len(list((tmp_path / "scratch").iterdir())) == 2
    del beside
    assert len(list((tmp_path / "scratch").iterdir())) == 1
    with first:
        pass
    assert list((tmp_path / "scratch").iterdir()) == []
