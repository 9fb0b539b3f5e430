"""A cluster too small for a job is refused in one line; one that may grow is given time to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO

import pytest
import ray
from rich.console import Console

from know_thyself.compute import room
from know_thyself.compute.room import Room
from know_thyself.config import EngineConfig, TrainConfig
from know_thyself.errors import ConfigError

FIXED = Room(0, Console(quiet=True))


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """What the cluster has."""
    resources = {"CPU": 4.0, "GPU": 2.0}
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    return resources


def test_each_training_worker_needs_a_device(there: dict[str, float]) -> None:
    FIXED.for_training(TrainConfig(workers=2), "cuda")
    FIXED.for_training(TrainConfig(workers="4..8"), "cpu")
    few = "but the cluster has 4 CPUs and 2 GPUs: lower train.workers, or add a node"
    with pytest.raises(ConfigError, match=f"train.workers=3 needs a GPU each, {few}"):
        FIXED.for_training(TrainConfig(workers=3, batch_size=3), "cuda")
    with pytest.raises(ConfigError, match=rf"train.workers=5\.\.8 needs a CPU each, {few}"):
        FIXED.for_training(TrainConfig(workers="5..8"), "cpu")


def test_engines_run_on_what_is_there(there: dict[str, float]) -> None:
    assert FIXED.for_engines(EngineConfig()) == "cuda"
    assert FIXED.for_engines(EngineConfig(device="cpu", actors_min=2, actors_max=2)) == "cpu"
    with pytest.raises(
        ConfigError, match=r"engine.actors-min=3 needs 5 CPUs .*, but the cluster has 4 CPUs and 2 GPUs: add a node"
    ):
        FIXED.for_engines(EngineConfig(actors_min=3, actors_max=3))
    there["GPU"] = 0
    assert FIXED.for_engines(EngineConfig()) == "cpu"
    with pytest.raises(ConfigError, match=r"engine.device='cuda' needs a GPU .*, but the cluster has 4 CPUs and 0 GPUs"):
        FIXED.for_engines(EngineConfig(device="cuda"))


def test_nodes_are_asked_for_until_they_come(there: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, dict[str, float]]] = []

    @contextmanager
    def asked_for(number: int, bundle: dict[str, float]) -> Iterator[None]:
        asked.append((number, bundle))
        for kind, amount in bundle.items():
            there[kind] = max(there.get(kind, 0), number * amount)
        yield

    monkeypatch.setattr(room, "_asked_for", asked_for)
    there.clear()
    told = StringIO()
    assert Room(60, Console(file=told)).for_engines(EngineConfig(device="cuda")) == "cuda"
    assert asked == [(3, {"CPU": 1}), (1, {"CPU": 1, "GPU": 1})]
    assert "engine.actors-min=1 needs 3 CPUs" in told.getvalue()
    assert "waiting 60 s at most" in told.getvalue().replace("\n", " ")


def test_nodes_that_do_not_come_are_not_waited_for_for_ever(there: dict[str, float], monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    @contextmanager
    def asked_for(number: int, bundle: dict[str, float]) -> Iterator[None]:
        try:
            yield
        finally:
            left.append(number)

    monkeypatch.setattr(room, "_asked_for", asked_for)
    with pytest.raises(ConfigError, match=r"train.workers=8 needs a CPU each, but the cluster has 4 CPUs"):
        Room(0.1, Console(quiet=True)).for_training(TrainConfig(workers=8), "cpu")
    assert left == [8]
