"""The shipped front proxy, run: it closes those who send slowly, keeps long bodies out, and lets good traffic through."""

from __future__ import annotations

import select
import socket
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx2
import pytest

from know_thyself.testing import FakeJudge
from know_thyself.wire import ErrorResponse
from serve.__main__ import taken
from serve.api import MAX_BODY, create_app
from serve.auth import Keys
from serve.policy import read_policy
from tests.serve.apps import ROUTE, SURE, running, scripted
from tests.serve.front import CONFIGURATION, HAPROXY, before

LIMIT = 10.0
"""Seconds by which a slow sender has to be closed."""


@pytest.fixture(scope="module")
def front() -> Iterator[str]:
    """The address of the front proxy before a service."""
    with running(create_app(FakeJudge(), read_policy(), Keys(), loopback_only=True)) as behind, before(behind) as address:
        yield address


def test_the_shipped_configuration_is_sound() -> None:
    done = subprocess.run([HAPROXY, "-c", "-f", str(CONFIGURATION)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


HALVES = {
    "half a head": b"POST /v1/judgments HTTP/1.1\r\nHost: service\r\nContent-Type: app",
    "half a body": b"POST /v1/judgments HTTP/1.1\r\nHost: service\r\nContent-Length: 900\r\n\r\n{",
    "half a line": b"POST /v1/judg",
    "nothing": b"",
}


def opened(url: str, sent: bytes) -> socket.socket:
    host, _, port = url.removeprefix("http://").partition(":")
    slow = socket.create_connection((host, int(port)))
    slow.sendall(sent)
    return slow


def asked(client: httpx2.Client, number: int) -> list[float]:
    """The seconds that each of so many good requests took."""
    taken_by = []
    for _ in range(number):
        began = time.perf_counter()
        assert client.post(ROUTE, json={"input": SURE}).status_code == 200
        taken_by.append(time.perf_counter() - began)
    return taken_by


def test_slow_senders_are_closed_and_good_traffic_is_unharmed(front: str) -> None:
    with httpx2.Client(base_url=front) as client, ExitStack() as stack, ThreadPoolExecutor(1) as pool:
        asked(client, 20)
        alone = asked(client, 100)
        began = time.monotonic()
        slow = [stack.enter_context(opened(front, sent)) for sent in HALVES.values() for _ in range(75)]
        left = pool.submit(still_open, slow, began + LIMIT)
        beside = asked(client, 100)
        assert statistics.median(beside) <= 1.1 * statistics.median(alone) + 0.01
        assert left.result() == 0
        asked(client, 20)


def still_open(senders: Sequence[socket.socket], until: float) -> int:
    """How many of `senders` are not closed `until` then."""
    waiting = set(senders)
    while waiting and time.monotonic() < until:
        for one in select.select(list(waiting), [], [], 0.2)[0]:
            if not one.recv(65536):
                waiting.remove(one)
    return len(waiting)


def test_those_who_drip_are_closed_as_well(front: str) -> None:
    began = time.monotonic()
    with opened(front, HALVES["half a head"]) as slow:
        while not select.select([slow], [], [], 0.5)[0]:
            assert time.monotonic() < began + LIMIT
            slow.sendall(b"x")
        assert slow.recv(65536).startswith(b"HTTP/1.1 408")


def test_bodies_that_are_too_long_or_of_unknown_length_are_kept_out(front: str) -> None:
    address = front + ROUTE
    cases: dict[int, bytes | Iterator[bytes]] = {413: b" " * (MAX_BODY + 1), 411: iter([b"{}"])}
    for status, content in cases.items():
        refused = httpx2.post(address, content=content)
        assert refused.status_code == status
        assert ErrorResponse.model_validate_json(refused.content).error.message
    assert httpx2.post(address, json={"input": SURE, "context": "x" * 30_000}).status_code == 200


def test_a_service_that_is_gone_is_told_in_the_same_shape() -> None:
    with taken("127.0.0.1", 0) as nobody:
        gone = f"127.0.0.1:{nobody.getsockname()[1]}"
    with before(gone) as front:
        answer = httpx2.get(f"{front}/v1/models")
    assert answer.status_code == 503
    assert ErrorResponse.model_validate_json(answer.content).error.code == "not_ready"
    assert answer.headers["retry-after"] == "2"


DIED: tuple[int, dict[str, str], bytes] = (500, {}, b"Internal Server Error")
"""What Ray Serve's proxy says of a replica that died."""


def test_what_a_dead_replica_took_along_is_asked_again_but_no_answer_is() -> None:
    with scripted() as (behind, app), before(behind) as front:
        app.script += [DIED, DIED]
        assert httpx2.post(front + ROUTE, json={"input": SURE}).status_code == 200
        app.script.append(DIED)
        chat = {"model": "any", "messages": [{"role": "user", "content": SURE}]}
        assert httpx2.post(f"{front}/v1/chat/completions", json=chat).status_code == 500
    assert [path for path in app.paths if path.startswith("/v1")] == [ROUTE] * 3 + ["/v1/chat/completions"]
