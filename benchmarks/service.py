"""The judgment service in a process of its own, as `python -m serve` starts it, on an untrained judge of any model."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from know_thyself import testing
from know_thyself.evaluation.calibration import ConfidenceMap
from know_thyself.judge import JudgeCard

PATIENCE = 180.0
"""Seconds within which a service is to be ready, and to end."""
LONGEST = 256
"""Tokens of the longest prompt."""


def untrained_card(model: str, **changes: Any) -> JudgeCard:
    """The card of the judge that `model` is without any training, with `changes`; p_correct is the share of its yes."""
    settings = {"experiment": "untrained", "decoding": {"max_tokens": 16}, "max_model_len": LONGEST}
    calibration = ConfidenceMap.of("temperature", [(1.0, 0.0)], "calibration", 300)
    return testing.untrained_card(model, **{**settings, "calibration": calibration, **changes})


@contextmanager
def serving(*flags: str | Path, log: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The address of a service started with `flags`, and its process; it is ready, ends with the context, and writes to `log`.

    Raises `RuntimeError` with the end of `log` when it does not come up.
    """
    port = free_port()
    with log.open("ab") as out:
        command = [sys.executable, "-m", "serve", *map(str, flags), "--port", str(port)]
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT)
    url = f"http://127.0.0.1:{port}"
    try:
        _await_ready(url, process, log)
        yield url, process
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def free_port() -> int:
    """A port of this machine that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not is_ready(url):
        if process.poll() is not None or time.monotonic() > end:
            raise RuntimeError("the service did not come up: " + _tail(log))
        time.sleep(0.2)


def _tail(log: Path) -> str:
    lines: Sequence[str] = log.read_text(errors="replace").splitlines()
    return " / ".join(lines[-5:])


def is_ready(url: str) -> bool:
    """Whether the service at `url` says that it is ready."""
    try:
        with urllib.request.urlopen(f"{url}/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
