"""The main job on the embedded world, whole and real: vLLM, DeepSpeed, Ray; the model learns what it knows."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from know_thyself.judge import read_judge
from know_thyself.models import resolve_model
from tests.conftest import PATIENCE

ROOT = Path(__file__).parents[2]
SIZES = ("--data.num-train", "1800", "--data.num-validation", "600", "--data.least", "150", "--train.epochs", "1")


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("experiments")
    command = [
        sys.executable,
        "-m",
        "jobs.judgment",
        "--preset",
        "world",
        "--name",
        "e2e",
        *SIZES,
        "--experiments-root",
        str(root),
    ]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr
    return root / "e2e"


@pytest.fixture(scope="module")
def summary(experiment: Path) -> dict[str, Any]:
    return dict(json.loads((experiment / "summary.json").read_text()))


def test_the_model_learns_what_it_knows(summary: dict[str, Any]) -> None:
    validation = {row["epoch"]: row["validation"] for row in summary["epochs"]}
    untrained, trained = validation[0], validation[summary["best_epoch"]]
    assert summary["best_epoch"] > 0
    assert trained["auroc"] > 0.9
    assert trained["auroc_low"] > untrained["auroc_high"]
    assert trained["judgment_accuracy"] > trained["majority"]
    assert trained["qa_accuracy"] == untrained["qa_accuracy"]
    assert trained["questions"] + trained["dropped"] == 600


def test_the_evidence_stands_beside_the_epochs(summary: dict[str, Any]) -> None:
    facts = next(row for row in summary["epochs"] if row["epoch"] == summary["best_epoch"])["validation"]
    assert facts["auroc"] < summary["ceiling"]["auroc_high"]
    assert facts["ece"] <= max(0.03, facts["ece_band"])
    assert summary["audit"]["shown"], summary["audit"]["verdict"]
    for name in ("question-length", "text-logistic", "text-neighbours"):
        row = summary["baselines"][name]
        assert row["auroc_low"] - 0.02 < 0.5 < row["auroc_high"] + 0.02, "names of unseen subjects tell nothing"
    for name in ("linear-probe", "first-token-entropy", "answer-log-probability", "agreement"):
        assert summary["baselines"][name]["auroc"] > 0.8, name
    for row in summary["thresholds"]:
        if row["reachable"]:
            assert row["validation_accuracy"] >= row["target_accuracy"] - 0.03


def test_the_judge_is_bound_to_the_packaged_base(experiment: Path) -> None:
    card = read_judge(experiment / "judge")
    assert card.base_digest == resolve_model("world", None).digest
    assert card.event == "k/n >= 0.5"
    assert card.calibration is not None
    assert card.calibration.fitted_on == "calibration"
    assert card.calibration.n >= 150
    assert (experiment / "judge" / "adapter" / "adapter_config.json").is_file()


def test_the_question_can_be_asked(experiment: Path) -> None:
    command = [sys.executable, "-m", "know_thyself.cli", "ask", "e2e", "Where was Nobody Inparticular born?", "--answer"]
    command += ["--experiments-root", str(experiment.parent)]
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert finished.returncode == 0, finished.stderr
    lines = finished.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].split(":")[0] in {"can", "cannot"}
    assert lines[1].startswith("answer: ")
    assert finished.stderr == "starting an engine, 20 to 40 seconds on a CPU\n"


def test_the_report_opens_in_a_browser_without_the_network(experiment: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed")
    page = subprocess.run(
        [
            *(chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
            *(
                "--disable-component-update",
                "--disable-sync",
                "--enable-logging=stderr",
                f"--user-data-dir={tmp_path / 'profile'}",
            ),
            *("--window-size=1280,2000", f"--screenshot={tmp_path / 'report.png'}", (experiment / "report.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (tmp_path / "report.png").stat().st_size > 50_000, page.stderr
    assert "CONSOLE" not in page.stderr, page.stderr
