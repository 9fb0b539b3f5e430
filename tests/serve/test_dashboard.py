"""The shipped dashboard shows what the service exports: every metric and label that it names is one, and none is left out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from know_thyself.asking import Asked, Opinion
from know_thyself.testing import FakeJudge
from serve.metrics import Meter

BOARD = json.loads((Path(__file__).parents[2] / "cluster" / "grafana.json").read_text())
PANELS: list[dict[str, Any]] = BOARD["panels"]
METRIC = re.compile(r"kt_[a-z_]+")


def exported() -> dict[str, set[str]]:
    """The labels of every series that the service exports once everything has happened."""
    meter = Meter()
    opinion = FakeJudge().judge_each([Asked(text="Who?")])[0]
    assert isinstance(opinion, Opinion)
    meter.request("/v1/judgments", 200, 0.1)
    meter.judgment(opinion, "answer")
    meter.refusal("empty_input")
    meter.failure("timeout", "abstain")
    meter.feedback(True)
    meter.loss("scores")
    meter.role("canary")
    meter.swap("done")
    meter.shadow(opinion, opinion)
    meter.shadow_skipped(1)
    found: dict[str, set[str]] = {}
    for line in meter.text(3).decode().splitlines():
        if not line.startswith("#"):
            name, _, labels = line.rpartition(" ")[0].partition("{")
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return found


SERIES = exported()
EXPRESSIONS = [(panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"]]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_metric_and_label_that_is_shown_exists(title: str, expression: str) -> None:
    named = METRIC.findall(expression)
    assert named
    assert set(named) <= SERIES.keys()
    labels = {label for group in re.findall(r"by \(([^)]*)\)", expression) for label in group.split(", ")}
    labels |= set(re.findall(r"(\w+)=~?\"", expression))
    assert labels <= set.intersection(*(SERIES[name] for name in named)), title


def test_every_metric_is_shown() -> None:
    shown = {re.sub("_(total|bucket)$", "", name) for _, expression in EXPRESSIONS for name in METRIC.findall(expression)}
    assert {re.sub("_(total|bucket|sum|count|created)$", "", name) for name in SERIES} == shown


def test_the_panels_are_told_apart_and_do_not_overlap() -> None:
    assert len({panel["id"] for panel in PANELS}) == len({panel["title"] for panel in PANELS}) == len(PANELS)
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in PANELS}
    assert len(places) == len(PANELS)
    assert all(panel["description"] for panel in PANELS)
    assert all(panel["datasource"]["uid"] == "${source}" for panel in PANELS)
