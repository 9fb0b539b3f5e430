"""The doors: bad input is one line and exit code 2, before anything heavy loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def job(*flags: str, root: Path | str, name: str = "judgment") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"jobs.{name}", "--experiments-root", str(root), *flags]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--train.epochs", "many"], "train.epochs='many'"),
        (["--preset", "nope"], "there is no preset 'nope'"),
        (["--num_samples", "many"], "data.num_train='many'"),
        (["--phase", "2"], "--phase: it chooses a phase of the three-phase pipeline"),
        (["--model", "/no/such/folder"], "/no/such/folder"),
        (["--dataset", "/no/such/folder"], "/no/such/folder"),
        (["--train.lora.use_dora", "true"], "--train.lora.use-dora: engines load plain LoRA"),
        (
            ["--train.lora.targets", "q_proj,c_attn"],
            "has no linear layer c_attn: choose --train.lora.targets from down_proj, gate_",
        ),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(flags: list[str], told: str, tmp_path: Path) -> None:
    finished = job(*flags, root=tmp_path / "experiments")
    assert finished.returncode == 2
    assert told in finished.stderr
    assert finished.stderr.startswith("error: ")
    assert len(finished.stderr.splitlines()) == 1
    assert not (tmp_path / "experiments").exists()


def test_the_job_that_trains_alone_refuses_what_cannot_be_trained(tmp_path: Path) -> None:
    finished = job("--train.lora.targets", "c_attn", root=tmp_path / "experiments", name="train")
    assert finished.returncode == 2
    assert "has no linear layer c_attn" in finished.stderr
    assert not (tmp_path / "experiments").exists()


def test_a_relative_root_inside_a_submitted_job_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    finished = job("--preset", "world", "--dry-run", root=Path("runs"))
    assert finished.returncode == 2
    assert finished.stderr.startswith("error: experiments-root=runs is relative, but a submitted job runs in a temporary copy")
    assert len(finished.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("root", "told"),
    [
        ("ftp://host/experiments", "ftp://host/experiments is no place that we can use: give a folder, or s3://bucket/prefix"),
        ("s3://bucket/experiments", "s3://bucket/experiments cannot be used at http://127.0.0.1:1 ("),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line_and_leaves_nothing(
    root: str, told: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_EC2_METADATA_DISABLED": "true", "KT_SCRATCH": str(tmp_path)}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    finished = job("--preset", "world", root=root)
    assert finished.returncode == 2
    assert finished.stderr.startswith(f"error: {told}")
    assert len(finished.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    finished = job("--preset", "world", "--dry-run", root=tmp_path / "experiments")
    assert finished.returncode == 0, finished.stderr
    assert '"stages_done": []' in finished.stdout
    assert not (tmp_path / "experiments").exists()
