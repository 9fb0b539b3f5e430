"""What the libraries read from the environment is set early, and never against the user."""

from __future__ import annotations

import os
import sys

import pytest

from know_thyself.compute.environment import READ_AT_IMPORT, SETTINGS, prepare_environment


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    return monkeypatch


def test_all_is_set_before_ray_is_imported(bare: pytest.MonkeyPatch) -> None:
    prepare_environment()
    assert {name: os.environ[name] for name in SETTINGS} == SETTINGS


def test_what_ray_has_already_read_is_left_alone(bare: pytest.MonkeyPatch) -> None:
    bare.setitem(sys.modules, "ray", sys)
    prepare_environment()
    assert READ_AT_IMPORT not in os.environ
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"


def test_the_user_is_never_overruled(bare: pytest.MonkeyPatch) -> None:
    bare.setenv(READ_AT_IMPORT, "disabled")
    prepare_environment()
    assert os.environ[READ_AT_IMPORT] == "disabled"
