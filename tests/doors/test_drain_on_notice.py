"""The drain watcher: on a notice of the cloud it drains this node once, on anything else never, and nothing ends it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
WATCHER = ROOT / "cluster" / "drain_on_notice.py"
TOKEN = "AQAEs3cret=="
FAKE_RAY = """#!{python}
import json, sys
from pathlib import Path
calls = Path({calls!r})
with calls.open("a") as file:
    print(json.dumps(sys.argv[1:]), file=file)
sys.exit({failures} >= len(calls.read_text().splitlines()))
"""

Reply = tuple[int, dict[str, str], bytes | Iterator[bytes]]
NOTHING: Reply = (404, {}, b"not found")


def aws_action(seconds: float, action: str = "terminate") -> Reply:
    """A notice that the instance goes in so many seconds."""
    ends = datetime.now(UTC) + timedelta(seconds=seconds)
    return 200, {}, json.dumps({"action": action, "time": ends.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


def gcp(text: str, etag: str = "aa11") -> Reply:
    return 200, {"Metadata-Flavor": "Google", "ETag": etag}, text.encode()


@dataclass
class Metadata:
    """A metadata service: what it answers at a path, and what it was asked. IMDSv2 wants its token, GCP its header."""

    replies: dict[str, Callable[[], Reply | None]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def answer(self, request: BaseHTTPRequestHandler) -> Reply | None:
        """The reply to a request; None where the connection is just closed."""
        url = urlsplit(request.path)
        self.asked.append(request.path)
        if url.path not in self.replies:
            return NOTHING
        if url.path.startswith("/latest/meta-data") and request.headers["X-aws-ec2-metadata-token"] != TOKEN:
            return 401, {}, b""
        if url.path.startswith("/computeMetadata") and request.headers["Metadata-Flavor"] != "Google":
            return 403, {}, b""
        return self.replies[url.path]()

    def await_questions(self, count: int) -> None:
        deadline = time.monotonic() + 30
        while len(self.asked) < count:
            assert time.monotonic() < deadline, self.asked
            time.sleep(0.01)


@contextmanager
def serving(metadata: Metadata) -> Iterator[Metadata]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            reply = metadata.answer(self)
            if reply is None:
                return
            status, headers, body = reply
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            with suppress(ConnectionError):  # the watcher hung up
                for part in [body] if isinstance(body, bytes) else body:
                    self.wfile.write(part)

        do_PUT = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        metadata.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield metadata
        finally:
            server.shutdown()
            thread.join()


def aws(action: Callable[[], Reply | None] = lambda: NOTHING, rebalance: Callable[[], Reply] = lambda: NOTHING) -> Metadata:
    return Metadata(
        {
            "/latest/api/token": lambda: (200, {}, TOKEN.encode()),
            "/latest/meta-data/spot/instance-action": action,
            "/latest/meta-data/events/recommendations/rebalance": rebalance,
        }
    )


def google(preempted: Callable[[], Reply | None]) -> Metadata:
    return Metadata({"/computeMetadata/v1/instance/preempted": preempted})


@dataclass(frozen=True)
class Bench:
    """A machine with a `ray` that only writes down how it is called, failing the first times."""

    folder: Path
    failures: int = 0

    @property
    def drains(self) -> list[list[str]]:
        calls = self.folder / "calls"
        return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []

    def start(self, metadata: Metadata, *flags: str) -> subprocess.Popen[str]:
        ray = self.folder / "ray"
        ray.write_text(FAKE_RAY.format(python=sys.executable, calls=str(self.folder / "calls"), failures=self.failures))
        ray.chmod(0o755)
        command = [sys.executable, str(WATCHER), "--metadata", f"127.0.0.1:{metadata.port}", "--every", "0.02", *flags]
        proxy = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9"}  # which nothing may go through
        return subprocess.Popen(
            command,
            env={**os.environ, **proxy, "PATH": f"{self.folder}{os.pathsep}{os.environ['PATH']}"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, metadata: Metadata, *flags: str) -> tuple[int, str]:
        """Exit code and words of a watcher that ends by itself."""
        with serving(metadata), self.start(metadata, *flags) as watcher:
            _, said = watcher.communicate(timeout=60)
            return watcher.returncode, said


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def check_drain(drain: list[str], low: int, high: int) -> None:
    *command, left = drain
    assert command[:3] == ["drain-node", "--reason", "DRAIN_NODE_REASON_PREEMPTION"]
    assert command[3] == "--reason-message"
    assert command[5:] == ["--deadline-remaining-seconds"]
    assert low <= int(left) <= high


@pytest.mark.parametrize("cloud", ["aws", "auto"])
@pytest.mark.parametrize("action", ["terminate", "stop", "hibernate"])
def test_a_notice_of_aws_drains_this_node_once(bench: Bench, cloud: str, action: str) -> None:
    metadata = aws(lambda: aws_action(90, action) if len(metadata.asked) > 6 else NOTHING)
    code, said = bench.run(metadata, "--cloud", cloud)
    assert code == 0, said
    (drain,) = bench.drains
    check_drain(drain, 75, 90)
    assert f"AWS will {action} this instance" in drain
    assert TOKEN not in said


@pytest.mark.parametrize("cloud", ["gcp", "auto"])
def test_a_preemption_of_gcp_drains_this_node_once(bench: Bench, cloud: str) -> None:
    def preempted() -> Reply:
        first = "?" not in metadata.asked[-1]
        return gcp("FALSE") if first else gcp("TRUE", "bb22")

    metadata = google(preempted)
    code, said = bench.run(metadata, "--cloud", cloud)
    assert code == 0, said
    (drain,) = bench.drains
    check_drain(drain, 25, 30)
    held = parse_qs(urlsplit(metadata.asked[-1]).query)
    assert (held["wait_for_change"], held["last_etag"]) == (["true"], ["aa11"])


@pytest.mark.parametrize(("flags", "drains"), [(["--rebalance"], 1), ([], 0)])
def test_a_recommendation_to_rebalance_drains_only_where_asked(bench: Bench, flags: list[str], drains: int) -> None:
    metadata = aws(rebalance=lambda: (200, {}, b'{"noticeTime": "2026-10-27T08:22:00Z"}'))
    with serving(metadata), bench.start(metadata, *flags) as watcher:
        metadata.await_questions(3 if drains else 12)
        try:
            if drains:
                assert watcher.wait(30) == 0
        finally:
            watcher.kill()
    assert len(bench.drains) == drains
    assert all("--deadline-remaining-seconds" not in drain for drain in bench.drains)


def test_a_drain_that_fails_is_tried_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path, failures=2)
    code, said = bench.run(aws(lambda: aws_action(60)))
    assert code == 0
    assert len(bench.drains) == 3
    lefts = [int(drain[-1]) for drain in bench.drains]
    assert lefts == sorted(lefts, reverse=True)
    assert lefts[0] - lefts[-1] >= 3
    assert "exit 1" in said


def test_a_clock_that_is_wrong_leaves_ray_neither_nothing_nor_too_much(bench: Bench) -> None:
    for metadata in (aws(lambda: aws_action(-600)), aws(lambda: aws_action(900))):
        assert bench.run(metadata)[0] == 0
    late, early = bench.drains
    check_drain(late, 5, 10)
    check_drain(early, 100, 120)


HOSTILE: dict[str, Callable[[], Reply | None]] = {
    "closed": lambda: None,
    "error": lambda: (500, *aws_action(60)[1:]),
    "redirect": lambda: (302, {"Location": "/latest/meta-data/spot/instance-action"}, b""),
    "empty": lambda: (200, {}, b""),
    "page": lambda: (200, {}, b"<html>terminate</html>"),
    "word": lambda: (200, {}, b"terminate"),
    "list": lambda: (200, {}, b'["terminate"]'),
    "null": lambda: (200, {}, b"null"),
    "no action": lambda: (200, {}, b'{"action": "none", "time": "2026-10-27T08:22:00Z"}'),
    "action of another type": lambda: (200, {}, b'{"action": ["terminate"], "time": {}}'),
    "no time": lambda: (200, {}, b'{"action": "terminate"}'),
    "time of garbage": lambda: (200, {}, b'{"action": "terminate", "time": "soon"}'),
    "time of another year": lambda: (200, {}, b'{"action": "terminate", "time": "0001-01-01T00:00:00Z"}'),
    "bytes": lambda: (200, {}, bytes(range(256))),
    "nested": lambda: (200, {}, b"[" * 4000),
    "endless": lambda: (200, {}, b" " * 200_000),
    "number": lambda: (200, {}, b"9" * 4096),
}
HOSTILE_GOOGLE: dict[str, Callable[[], Reply | None]] = {
    "closed": lambda: None,
    "error": lambda: (500, {"Metadata-Flavor": "Google"}, b"TRUE"),
    "not google": lambda: (200, {}, b"TRUE"),
    "other case": lambda: gcp("true"),
    "more": lambda: gcp("TRUE TRUE"),
    "page": lambda: gcp("<html>TRUE</html>"),
    "empty": lambda: gcp(""),
    "etag of garbage": lambda: gcp("FALSE", "a&last_etag=0#"),
}


def check_unmoved(bench: Bench, metadata: Metadata, cloud: str, honest: Callable[[], Reply]) -> None:
    """The watcher neither drains nor ends while it is answered so, and still hears the honest notice that follows."""
    path = next(path for path in metadata.replies if path.endswith(("instance-action", "preempted")))
    with serving(metadata), bench.start(metadata, "--cloud", cloud) as watcher:
        metadata.await_questions(5)
        assert watcher.poll() is None
        assert bench.drains == []
        metadata.replies[path] = honest
        _, said = watcher.communicate(timeout=60)
    assert watcher.returncode == 0, said
    assert "Traceback" not in said
    assert len(bench.drains) == 1


@pytest.mark.parametrize("hostile", HOSTILE)
def test_garbage_of_aws_drains_nothing_and_ends_nothing(bench: Bench, hostile: str) -> None:
    check_unmoved(bench, aws(HOSTILE[hostile]), "aws", lambda: aws_action(60))


@pytest.mark.parametrize("hostile", HOSTILE_GOOGLE)
def test_garbage_of_gcp_drains_nothing_and_ends_nothing(bench: Bench, hostile: str) -> None:
    check_unmoved(bench, google(HOSTILE_GOOGLE[hostile]), "gcp", lambda: gcp("TRUE"))


@pytest.mark.parametrize("token", [b"", b"\r\nX: y", bytes(range(256)), b"k" * 9000])
def test_a_hostile_token_is_no_notice(bench: Bench, token: bytes) -> None:
    metadata = aws(lambda: aws_action(60))
    metadata.replies["/latest/api/token"] = lambda: (200, {}, token)
    with serving(metadata), bench.start(metadata) as watcher:
        metadata.await_questions(6)
        assert watcher.poll() is None
        watcher.kill()
    assert bench.drains == []


def test_an_answer_that_drips_is_given_up(bench: Bench) -> None:
    """Every byte comes in time, the whole answer never."""
    stop = threading.Event()

    def drip() -> Iterator[bytes]:
        while not stop.wait(0.3):
            yield b" "

    metadata = google(lambda: (200, {"Metadata-Flavor": "Google"}, drip()))
    with serving(metadata), bench.start(metadata, "--cloud", "gcp") as watcher:
        metadata.await_questions(2)  # the second is asked while the first is still being answered
        metadata.replies["/computeMetadata/v1/instance/preempted"] = lambda: gcp("TRUE")
        _, said = watcher.communicate(timeout=60)
        stop.set()
    assert watcher.returncode == 0
    assert "no whole answer within" in said
    assert len(bench.drains) == 1


def test_where_nothing_answers_it_waits(bench: Bench) -> None:
    metadata = Metadata()
    with serving(metadata):
        pass  # its port is closed again
    with bench.start(metadata) as watcher:
        assert watcher.stderr is not None
        assert "Connection refused" in watcher.stderr.readline()
        assert watcher.poll() is None
        watcher.kill()
    assert bench.drains == []


def test_it_ends_when_its_pod_does(bench: Bench) -> None:
    """As the first process of a container it would not hear SIGTERM, were there nothing to hear it with."""
    metadata = aws()
    with serving(metadata), bench.start(metadata) as watcher:
        metadata.await_questions(3)
        watcher.send_signal(signal.SIGTERM)
        assert watcher.wait(10) == 0
    assert bench.drains == []


@pytest.mark.parametrize("host", ["", "http://1.2.3.4", "a b", "1.2.3.4:port"])
def test_a_host_that_is_none_is_refused(host: str) -> None:
    done = subprocess.run([sys.executable, str(WATCHER), "--metadata", host], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "is no HOST or HOST:PORT" in done.stderr
