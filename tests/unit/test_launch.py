"""How a job ends: one line, and an exit code that tells."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from jobs.launch import launch
from know_thyself.config import RunConfig
from know_thyself.errors import StageError


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job catches SIGTERM and prepares its environment; a test leaves neither."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr("jobs.launch.prepare_environment", lambda: None)


FULL = r"error: no space left for .*/root \(\d+ MiB free\): make room and run the same command again"


@pytest.mark.parametrize(
    ("error", "code", "told"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), 2, FULL),
        (OSError(errno.EFBIG, os.strerror(errno.EFBIG)), 2, FULL),
        (OSError(errno.EIO, os.strerror(errno.EIO)), 1, r"error: .*Input/output error; what was committed is kept"),
        (StageError("grade", "why"), 1, "error: grade: why"),
        (
            KeyboardInterrupt(),
            130,
            r"\nstopped; what was committed is kept\. To go on: python -m jobs\.judgment --experiments-.*",
        ),
    ],
)
def test_whatever_stops_a_job_is_one_line_and_an_exit_code(
    error: BaseException,
    code: int,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work(config: RunConfig) -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["judgment", "--experiments-root", str(tmp_path / "root")])
    with pytest.raises(SystemExit) as stopped:
        launch("judgment", work)
    assert stopped.value.code == code
    assert re.fullmatch(told + r"\n", capsys.readouterr().err)
