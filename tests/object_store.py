"""An object store on this machine: moto's server, which speaks S3, with one bucket."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.service import free_port

HOST, BUCKET, PATIENCE = "127.0.0.1", "bucket", 60.0


@dataclass(frozen=True)
class Bucket:
    """A running store: the URL of its bucket, and the environment in which it is found, but for the folder of copies."""

    url: str
    endpoint: str

    def environment(self, scratch: Path) -> dict[str, str]:
        """What a process needs that keeps its copies in `scratch`."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "KT_SCRATCH": str(scratch),
        }

    def seen(self, monkeypatch: pytest.MonkeyPatch, scratch: Path) -> None:
        """Have this process find the store, as another machine does that keeps its copies in `scratch`."""
        for name, value in self.environment(scratch).items():
            monkeypatch.setenv(name, value)


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A store with an empty bucket, for as long as the context lasts.

    In a process of its own: vLLM looks into every module that is loaded, and does not start where Flask is one of them.
    """
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        endpoint = f"http://{HOST}:{port}"
        _make_bucket(f"{endpoint}/{BUCKET}", process)
        yield Bucket(f"s3://{BUCKET}", endpoint)
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _make_bucket(url: str, process: subprocess.Popen[bytes]) -> None:
    """Have the server of `process` make a bucket, as soon as it is up."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=PATIENCE):
                return
        except urllib.error.URLError:
            assert process.poll() is None, "the object store did not come up"
            assert time.monotonic() < end, "the object store does not answer"
            time.sleep(0.1)
