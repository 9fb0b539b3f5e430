"""The library, its configuration and every command's `--help` answer without loading what runs a model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HEAVY = "deepspeed peft ray torch transformers vllm"
JOBS = sorted(file.stem for file in (ROOT / "jobs").glob("[!_]*.py") if "__main__" in file.read_text(encoding="utf-8"))

REPORT = f"import sys; print('loaded:', *[name for name in {HEAVY!r}.split() if name in sys.modules])"
IMPORT = f"import know_thyself, know_thyself.config, know_thyself.cli; {REPORT}"
HELP = f"""
import runpy, sys
sys.argv = [sys.argv[1], "--help"]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
except SystemExit as leaving:
    assert not leaving.code, leaving.code
{REPORT}
"""


def last_line(code: str, *arguments: str) -> str:
    done = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_importing_the_library_loads_nothing_heavy() -> None:
    assert last_line(IMPORT) == "loaded:"


def test_the_main_job_exists() -> None:
    assert "judgment" in JOBS


@pytest.mark.parametrize("job", JOBS)
def test_the_help_of_a_job_loads_nothing_heavy(job: str) -> None:
    assert last_line(HELP, f"jobs.{job}") == "loaded:"
