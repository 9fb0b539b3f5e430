"""What all tests stand on: a closed-off environment, small worlds, and whether a module needs Ray or an engine."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from know_thyself.testing import fake_answer
from know_thyself.world.recipe import WorldRecipe

os.environ |= {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_idle_worker_killing_time_threshold_ms": "600000",  # a process that was started for one stage serves the next
    "RAY_worker_niceness": "0",  # at Ray's own 15, anything else on the machine starves what is tested
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # one process less for each training; a test that drains nodes sets it anew
    "OMP_WAIT_POLICY": "PASSIVE",  # threads that spin for one another take the cores from the tests of the other lane
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
}
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # hundreds of processes would compile the package, each for itself
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")
PATIENCE = 1100
"""Seconds that a test waits for a job: several times what the longest takes on two idle cores, for not all cores are that."""
MARKS = {"ray": "ray", "engine": "engine", "behaviour": "engine", "chaos": "chaos", "soak": "soak"}
SMALL_WORLD = WorldRecipe(seed=7, subjects=60, steps=40, layers=2, width=96, batch=32, vocabulary=512)


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark a test by its folder."""
    for folder, mark in MARKS.items():
        if folder in item.path.parts:
            item.add_marker(mark)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long comes first, so that the lanes end together."""
    items.sort(key=lambda item: MARKS.keys().isdisjoint(item.path.parts))


class Lanes(LoadScopeScheduling):  # type: ignore[misc]  # pytest-xdist has no types
    """The lanes of `make test`: all tests of real engines go down one of them, any others by file down whichever is free."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "engine" if any(MARKS.get(folder) == "engine" for folder in file.split("/")) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Lanes:
    """What shares tests out when pytest is told how many lanes there are."""
    return Lanes(config, log)


@pytest.fixture(scope="session")
def small_world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a world built in seconds: its model knows nothing, but it is a real model in the real layout."""
    from know_thyself.world.build import build_world

    out = tmp_path_factory.mktemp("world")
    build_world(SMALL_WORLD, out)
    return out


def write_fake_questions(folder: Path, train: int, validation: int) -> Path:
    """Questions for the fake engine, three to a group, as JSON Lines."""
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("validation", validation)):
        texts = [f"What is {split} thing number {i}?" for i in range(count)]
        rows = [
            {"id": f"{split}-{i}", "question": text, "answers": [fake_answer(text)], "group": f"{split}-{i // 3}"}
            for i, text in enumerate(texts)
        ]
        (folder / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
