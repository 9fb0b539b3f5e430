"""`know-thyself drift` on what a service wrote down: from its judgments and feedback to words."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from know_thyself import cli
from know_thyself.digests import SHORT
from know_thyself.evaluation.drift import Reference
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.testing import FakeJudge, fake_card
from serve.journal import Journal
from serve.metrics import Meter
from serve.policy import Kept
from serve.service import Backing
from tests.serve.apps import post, served

RANDOM = np.random.default_rng(0)
CONFIDENCE = RANDOM.beta(2, 2, 600)


def judge_of(folder: Path, reference: Reference | None) -> tuple[Path, JudgeCard]:
    """A judge as far as its card goes."""
    base = folder / "base"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    return folder / "judge", write_judge(folder / "judge", fake_card(base=str(base), reference=reference), None)


@pytest.fixture
def judge(tmp_path: Path) -> tuple[Path, JudgeCard]:
    """A judge that was calibrated on `CONFIDENCE`."""
    return judge_of(tmp_path, Reference.of(CONFIDENCE, CONFIDENCE))


def drift(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, list[str]]:
    """The exit code of the command, and the lines that it printed."""
    monkeypatch.setattr(sys, "argv", ["know-thyself", "drift", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    out, err = capsys.readouterr()
    return caught.value.code, [*out.splitlines(), *err.splitlines()]  # type: ignore[return-value]


def written(file: Path, card: JudgeCard, truth: float) -> Path:
    """A journal of judgments like those of the calibration, and of answers that are right to a share `truth` of that."""
    at, name = int(time.time()) - 5000, card.digest[:SHORT]
    sure = RANDOM.beta(2, 2, 1000)
    right = RANDOM.random(1000) < sure * truth
    with Journal(file, Kept(), Meter()) as journal:
        journal.note_scores([(at + i, name, p, p, "can", "answer") for i, p in enumerate(sure.tolist())])
        journal.note_scores([(at, "f" * SHORT, 0.5, 0.5, "can", "answer")] * 7)
        for i in range(500):
            asyncio.run(journal.keep_feedback((f"jdg-{i}", 0, at + i, name, float(sure[i]), True, bool(right[i]))))
    return file


@pytest.mark.parametrize(("truth", "advice"), [(1.0, "no need to recalibrate"), (0.6, "recalibrate: answers are right less")])
def test_it_tells_whether_to_recalibrate(
    truth: float,
    advice: str,
    judge: tuple[Path, JudgeCard],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, card = judge
    file = written(tmp_path / "journal", card, truth)
    code, lines = drift(monkeypatch, capsys, file, "--judge", folder)
    assert code == 0
    assert lines[0] == "1000 judgments and 500 feedbacks against 600 calibration questions"
    assert lines[1] == "left out: 7 judgments of other judges"
    assert [line.partition(":")[0] for line in lines[2:6]] == [
        "confidences",
        "accuracy to expect",
        "right answers told, less those to expect",
        "calibration error",
    ]
    assert lines[-1].startswith(advice)
    assert drift(monkeypatch, capsys, file, "--judge", folder, "--last", 300)[1][0].startswith("300 judgments and 300 feedb")


def test_what_a_service_wrote_is_what_it_reads(
    judge: tuple[Path, JudgeCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, card = judge
    meter = Meter()
    with Journal(tmp_path / "journal", Kept(), meter) as journal:
        client = served(FakeJudge(card), backing=Backing(meter=meter, journal=journal))
        for start in range(0, 640, 128):
            name = post(client, {"input": [f"What is thing {i}?" for i in range(start, start + 128)]}).json()["id"]
        assert client.post("/v1/feedback", json={"id": name, "index": 7, "correct": True}).status_code == 200
    code, lines = drift(monkeypatch, capsys, tmp_path / "journal", "--judge", folder)
    assert code == 0
    assert lines[0] == "640 judgments and 1 feedbacks against 600 calibration questions"
    # A third of all questions the fake judge never knows, and a third always.
    assert lines[-1].startswith("questions have changed: 200 feedbacks or more tell whether p_correct still holds")


def test_what_is_wrong_is_told_in_one_line(
    judge: tuple[Path, JudgeCard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = judge
    code, lines = drift(monkeypatch, capsys, tmp_path / "none", "--judge", folder)
    assert code == 2
    assert len(lines) == 1
    assert "is no journal to read" in lines[0]
    assert not (tmp_path / "none").exists()
    old = tmp_path / "old"
    old.mkdir()
    code, lines = drift(monkeypatch, capsys, tmp_path / "none", "--judge", judge_of(old, None)[0])
    assert code == 2
    assert len(lines) == 1
    assert "holds no picture of its calibration set: run its job again" in lines[0]
