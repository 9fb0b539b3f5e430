"""What a job knows of how it was submitted."""

from __future__ import annotations

import json
import threading

import pytest
from ray.runtime_env import RuntimeEnv
from ray.runtime_env.runtime_env import _merge_runtime_env

from know_thyself.compute import submission as submitted
from know_thyself.compute.session import told_to_workers
from know_thyself.compute.submission import keeping_record, submission
from know_thyself.experiment import SUBMITTED

NAMES = ("AWS_ENDPOINT_URL", "AWS_REGION")


def test_who_was_not_submitted_has_no_id_and_tells_its_workers_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SUBMITTED, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://store")
    monkeypatch.delenv("AWS_REGION", raising=False)
    assert submission() is None
    assert told_to_workers(NAMES) == {"AWS_ENDPOINT_URL": "http://store"}


def test_what_a_job_was_submitted_with_is_not_told_again_for_ray_refuses_that(monkeypatch: pytest.MonkeyPatch) -> None:
    given = RuntimeEnv(env_vars={"AWS_ENDPOINT_URL": "http://store"})
    monkeypatch.setenv(SUBMITTED, json.dumps({"runtime_env": given.to_dict(), "metadata": {"job_submission_id": "a job"}}))
    for name in NAMES:
        monkeypatch.setenv(name, "http://store")
    assert submission() == "a job"
    assert _merge_runtime_env(given, RuntimeEnv(env_vars=dict.fromkeys(NAMES, "http://store")), override=False) is None
    merged = _merge_runtime_env(given, RuntimeEnv(env_vars=told_to_workers(NAMES)), override=False)
    assert merged is not None
    assert merged["env_vars"] == dict.fromkeys(NAMES, "http://store")


def test_a_line_that_could_not_be_written_is_written_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried, is_written = [], threading.Event()

    async def put(job: str, told: dict[str, str]) -> None:
        tried.append((job, told["experiment"], told["status"]))
        if len(tried) == 1:
            raise ConnectionError("no answer")
        is_written.set()

    monkeypatch.setenv(SUBMITTED, json.dumps({"metadata": {"job_submission_id": "a job"}}))
    monkeypatch.setattr(submitted, "_put", put)
    monkeypatch.setattr(submitted, "TELL_EVERY", 0.01)
    with keeping_record("here", lambda: "done"):
        assert is_written.wait(30)
    assert tried == [("a job", "here", "done")] * 2
