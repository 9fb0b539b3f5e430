"""The report: it stays within what the numbers carry, and within one page that nothing can escape from."""

from __future__ import annotations

import base64
import dataclasses
import errno
import hashlib
import json
import os
import re
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from know_thyself.errors import StoreError
from know_thyself.evaluation.audit import Cost, Rival, audit, compare
from know_thyself.evaluation.calibration import Fitted, fit_method
from know_thyself.evaluation.evidence import UNGRADED
from know_thyself.evaluation.findings import calibration_facts, ceiling_facts, threshold_facts
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.report import JudgedQuestion, Report, render, write_report
from tests.unit.columns import make_scores as binary_scores
from tests.unit.columns import simulated_ternary

HOSTILE = "<script>alert('x')</script><img src=https://example.org/x.png>"
VOID = {"meta", "link", "img", "br", "hr", "input"}


def make_scores(skill: float, num_questions: int = 200) -> Scores:
    """A judge whose confidence is `skill` parts the measured accuracy and the rest noise: 1 is perfect, below 0 misled."""
    rng = np.random.default_rng(0)
    right = rng.binomial(5, rng.beta(0.6, 0.8, num_questions))
    sure = np.clip(0.5 + skill * (right / 5 - 0.5) + (1 - abs(skill)) * (rng.random(num_questions) - 0.5), 0, 1)
    return binary_scores(right.tolist(), sure.tolist())


def make_report(*skills: float, best_epoch: int = 1, num_questions: int = 200) -> Report:
    """A report of one epoch per skill, every split alike."""
    made = [make_scores(skill, num_questions) for skill in skills]
    return report_of("binary", made, best_epoch)


def report_of(mode: str, made: Sequence[Scores], best_epoch: int) -> Report:
    """A report of one epoch per entry of `made`, every split alike."""
    splits = ("train", "dev", "validation")
    scores = {epoch: dict.fromkeys(splits, columns) for epoch, columns in enumerate(made)}
    facts = {epoch: summarize(by_split["validation"], 3, replicates=100) for epoch, by_split in scores.items()}
    epochs: list[dict[str, Any]] = [{"epoch": epoch, **dict.fromkeys(splits, found)} for epoch, found in facts.items()]
    judged = JudgedQuestion(
        question=HOSTILE, answers=["Ada & Bob"], trials=["", HOSTILE, "\ud800"], confidence=0.93, num_correct=0, num_graded=5
    )
    return Report(
        name=f"tiny_world_{mode}_lora_0123456789ab",
        summary={
            "model": "tiny",
            "dataset": "world",
            "label_mode": mode,
            "tuning": "lora",
            "seed": 0,
            "best_epoch": best_epoch,
            "epochs": epochs,
        },
        scores=scores,
        best_epoch=best_epoch,
        config={"train": {"lr": 0.001, "note": HOSTILE}, "seed": 0},
        versions={"numpy": "2.3.5"},
        dropped={UNGRADED: 3},
        examples={"confident and wrong": [judged], "doubtful and right": []},
    )


class Page(HTMLParser):
    """Collects tags and attributes, and fails where an element is closed that is not the innermost one open."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()


@pytest.fixture(scope="module")
def improved() -> str:
    return render(make_report(0.1, 0.7))


def finding(text: str) -> str:
    found = re.search(r'<p class="finding">(.*?)</p>', text)
    assert found is not None
    return found[1]


def test_page_is_well_formed_and_loads_nothing(improved: str) -> None:
    page = Page(improved)
    assert page.open == []
    assert not page.tags & {"img", "link", "iframe", "object", "embed", "base", "form"}
    policy = next(value or "" for name, value in page.attributes if name == "content" and "default-src" in (value or ""))
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline'; img-src data:; script-src 'sha256-")
    assert "unsafe-inline" not in policy.partition("script-src")[2]
    assert not [pair for pair in page.attributes if re.search(r"https?:|//|javascript:", pair[1] or "")]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "@import" not in improved
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", improved))
    assert improved.count("<svg") == 5


def test_text_stays_inert_wherever_it_appears(improved: str) -> None:
    scripts = re.findall(r"<script([^>]*)>(.*?)</script>", improved, re.DOTALL)
    assert [attributes.strip() for attributes, _ in scripts] == ['type="application/json" id="scores"', ""]
    digest = base64.b64encode(hashlib.sha256(scripts[1][1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in improved, "no other script may run"
    assert "alert" not in scripts[0][1] + scripts[1][1]
    assert "<img" not in improved
    assert improved.count("&lt;script&gt;") == 3
    assert "Ada &amp; Bob" in improved
    assert "(empty)" in improved


def test_what_is_shown_is_what_was_measured(improved: str) -> None:
    facts = make_report(0.1, 0.7).summary["epochs"][1]["validation"]
    assert f"{facts['auroc']:.3f} ({facts['auroc_low']:.3f} to {facts['auroc_high']:.3f})" in improved
    assert improved.count("✓ chosen") == 1
    for shown in ("train.lr", "0.001", UNGRADED, "2.3.5", "93 %; 0 of 5"):
        assert shown in improved


def test_ids_of_the_figures_are_unique_and_their_references_resolve(improved: str) -> None:
    ids = re.findall(r'\sid="([^"]*)"', improved)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="|url\()#([^")]*)', improved)) <= set(ids)


def shown(count: int, total: int) -> str:
    return f'{count} <span class="quiet">{100 * count / total:.1f} %</span>'


def test_three_verdicts_are_told_apart_on_the_page() -> None:
    report = report_of("uncertainty", [simulated_ternary(300, seed, noise) for seed, noise in ((1, 0.5), (1, 0.1))], 1)
    text = render(report)
    assert Page(text).open == []
    assert text.count("<svg") == 5
    for name in ("Kappa, quadratic", "Class distance", "AUROC, uncertain", "claimed uncertain"):
        assert name in text
    facts = report.summary["epochs"][1]["validation"]
    for row in facts["confusion"]:
        for count in row:
            assert f">{shown(count, sum(row))}</td>" in text
        assert f"<td>{sum(row)}</td>" in text
    claimed = [sum(column) for column in zip(*facts["confusion"], strict=True)]
    shares = "".join(f"<td>{shown(count, 300)}</td>" for count in claimed)
    assert f'<th scope="row">claimed, epoch 1</th>{shares}' in text


def test_two_verdicts_are_not_told_of_a_third(improved: str) -> None:
    assert "claimed cannot" in improved
    assert "claimed uncertain" not in improved
    assert "Kappa, quadratic" not in improved


def test_a_judge_without_a_forecast_keeps_its_roc_curve() -> None:
    blind = [dataclasses.replace(simulated_ternary(60, seed), forecast=None) for seed in (1, 2)]
    text = render(report_of("uncertainty", blind, 1))
    assert text.count("<svg") == 2
    assert text.count("Cannot be drawn") == 3
    assert "undefined: no calibration questions" in text


@pytest.mark.parametrize(
    ("skills", "best_epoch", "found"),
    [
        ((0.1, 0.7), 1, "After training, the model is better"),
        ((0.7, 0.1), 1, "After training, the model is worse"),
        ((0.4, 0.4), 1, "No improvement is shown"),
        ((0.4, 0.2), 0, "Training did not help"),
        ((0.4,), 0, "Nothing has been trained yet"),
        ((0.4,), 1, "Nothing can be said yet"),
    ],
)
def test_the_finding_follows_the_numbers(
    monkeypatch: pytest.MonkeyPatch, skills: tuple[float, ...], best_epoch: int, found: str
) -> None:
    monkeypatch.setattr("know_thyself.evaluation.report._figures", lambda report: [])
    assert finding(render(make_report(*skills, best_epoch=best_epoch))).startswith(found)


def test_a_judge_no_better_than_guessing_is_called_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("know_thyself.evaluation.report._figures", lambda report: [])
    text = render(make_report(-0.5, -0.2))
    assert "After training, the model is better" in finding(text)
    assert "That is not shown to be better than guessing." in text
    assert "the judgment is no better than that" in text
    assert "The two intervals do not overlap." in text
    assert "The two intervals overlap." in render(make_report(0.4, 0.4))


def test_without_questions_the_page_says_what_is_undefined() -> None:
    text = render(make_report(0.1, 0.7, num_questions=0))
    assert "Whether training helped cannot be said" in finding(text)
    assert "undefined: no questions" in text
    assert text.count("Cannot be drawn") == 5
    assert Page(text).open == []


def test_the_same_report_gives_the_same_bytes(tmp_path: Path, improved: str) -> None:
    write_report(tmp_path / "report.html", make_report(0.1, 0.7))
    assert (tmp_path / "report.html").read_bytes() == improved.encode("utf-8", errors="replace")


def test_a_full_disk_leaves_the_report_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = tmp_path / "report.html"
    path.write_text("the report of the epoch before")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=r"no space left for .*report\.html \(\d+ MiB free\)"):
        write_report(path, make_report(0.4))
    assert path.read_text() == "the report of the epoch before"
    assert list(tmp_path.iterdir()) == [path]


def test_the_page_tells_what_may_be_promised_and_what_the_judge_is_held_against() -> None:
    report = make_report(0.1, 0.7)
    learned, measured = make_scores(0.6, 400), report.scores[1]["validation"]
    platt = fit_method("platt", learned.confidence, learned.accuracy)
    fitted = Fitted(calibration=platt, losses={"platt": 0.5}, crossfitted=platt.expected(learned.confidence))
    rival = Rival(scores=np.random.default_rng(0).random(200), cost=Cost(tokens=3.0, relative_latency=2.5))
    compared = compare(measured, {"text-logistic": rival, "p-true": Rival(scores=None, cost=Cost(), reason="not read")})
    found: dict[str, Any] = {
        "ceiling": ceiling_facts(measured),
        "calibration": calibration_facts(fitted, measured),
        "thresholds": threshold_facts(None, learned, measured),
        "baselines": compared,
        "audit": audit(compared),
    }
    text = render(dataclasses.replace(report, summary={**report.summary, **found}))
    assert Page(text).open == []
    assert found["audit"]["shown"]
    for told in ("The judge knows more about itself than the question reveals: +0.", "undefined: not read", "2.5 ×"):
        assert told in text
    ceiling = found["ceiling"]
    assert f"{ceiling['auroc']:.3f} ({ceiling['auroc_low']:.3f} to {ceiling['auroc_high']:.3f})" in text
    assert "calibrated by the method platt, fitted on 400 questions" in text
    for row in found["thresholds"]:
        assert f"{row['target_accuracy']:.0%} right" in text


def test_the_scores_for_the_slider_are_those_of_the_judge(improved: str) -> None:
    embedded = json.loads(re.findall(r'id="scores">(.*?)</script>', improved)[0])
    scores = make_report(0.1, 0.7).scores[1]["validation"]
    assert scores.forecast is not None
    assert [row[0] for row in embedded] == sorted(scores.forecast.round(4).tolist(), reverse=True)
    assert sum(row[1] for row in embedded) == pytest.approx(scores.accuracy.sum())


def test_what_it_used_is_shown_with_the_prices_given() -> None:
    used = {
        "acts": {
            "sample": {"device_seconds": 1800.0, "times": 9, "questions": 1200, "tokens_read": 34567, "tokens_written": 890},
            "start": {"device_seconds": 90.0, "times": 2, "questions": 0, "tokens_read": 0, "tokens_written": 0},
        },
        "device_hours": 0.525,
        "prices": {"on_demand": 4.0, "spot": None},
        "money": {"on_demand": 2.1, "spot": None},
    }
    page = render(dataclasses.replace(make_report(0.1, 0.6), used=used))
    for shown in ("What it used", "answering", "1,200", "34,567", "In all 0.525 hours", "At 4 an hour on demand, that is 2.1."):
        assert shown in page
    assert "on spot" not in page
    assert "What it used" not in render(make_report(0.1, 0.6))
