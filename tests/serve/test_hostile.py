"""What nobody means well: bodies without end, bombs, names that point elsewhere. Told at once, in little memory."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from benchmarks.service import free_port
from know_thyself.errors import ConfigError
from know_thyself.judge import write_judge
from know_thyself.testing import fake_card
from know_thyself.wire import ErrorResponse
from serve.api import MAX_BODY
from serve.auth import Scope, read_keys
from serve.routes import chat, feedback
from tests.serve.apps import DECISIONS, KEYS, ROUTE, SURE, SYSTEMONE, bearer, served
from tests.serve.test_errors import told
from tests.serve.test_main import ROOT, SERVING, answered

MEBIBYTE = 1024 * 1024
SLOW = SERVING.replace(
    "    def __enter__",
    "    def judge_each(self, asked):\n        time.sleep(0.2)\n        return super().judge_each(asked)\n    def __enter__",
).replace("import sys, types", "import sys, time, types")
"""The program with a judge that takes its time, so that a queue forms."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    """The process and the address of a service that listens."""
    folder = tmp_path_factory.mktemp("judge")
    (folder / "base").mkdir()
    (folder / "base" / "tokenizer.json").write_text("{}")
    write_judge(folder / "one" / "judge", fake_card(base=str(folder / "base")), None)
    port = free_port()
    command = [sys.executable, "-c", SLOW, "--judge", str(folder / "one" / "judge"), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            answered(process, f"http://127.0.0.1:{port}/health/ready")
            yield process.pid, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def resident(process: int, field: str) -> int:
    """Bytes of memory that `process` holds (VmRSS), or held at most (VmHWM)."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def worked(process: int) -> float:
    """Seconds that `process` has computed: what a busy machine takes besides is not its fault."""
    times = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, times[11:13])) / os.sysconf("SC_CLK_TCK")


def endless() -> Iterator[bytes]:
    """A body in chunks that says nowhere how long it is."""
    for _ in range(64):
        yield b"[" * MEBIBYTE


def nested(depth: int) -> bytes:
    return b'{"input": ' + b"[" * depth + b"]" * depth + b"}"


Bodies = dict[str, tuple[bytes | Callable[[], Iterator[bytes]], int]]
"""What is sent, under its name, and the status that it is refused with."""
EVERYWHERE: Bodies = {
    "too long": (b" " * (MAX_BODY + 1), 413),
    "chunks without end": (endless, 413),
    "a bomb": (gzip.compress(b" " * (64 * MEBIBYTE)), 400),
    "a bomb too large": (gzip.compress(b" " * MEBIBYTE) * 6000, 413),
    "depth 10,000": (nested(10_000), 400),
    "depth 1,000,000": (nested(1_000_000), 400),
    "objects at depth 10,000": (b'{"input":' * 10_000 + b"1" + b"}" * 10_000, 400),
    "a hundred thousand keys": (json.dumps(dict.fromkeys(map(str, range(100_000)), 1)).encode(), 422),
}


def wrong(**body: object) -> tuple[bytes, int]:
    """A body in which something is of another shape."""
    return json.dumps(body).encode(), 422


MANY_KEYS = dict.fromkeys(map(str, range(60)), 1)
TURN = {"role": "user", "content": "a", **MANY_KEYS}
EMPTY_PARTS = [{"role": "user", "content": [{}] * 512}] * 512
JUDGED: Bodies = {
    "a list of 100,000": (json.dumps({"input": ["a"] * 100_000}).encode(), 422),
    "chats of 100,000": (json.dumps({"input": [[]] * 100_000}).encode(), 422),
    "a chat of 20,000": (json.dumps({"input": [{"role": "user", "content": "a"}] * 20_000}).encode(), 422),
    "depth 900": (nested(900), 422),
    "a million characters": (json.dumps({"input": "a " * 500_000}).encode(), 400),
    "a million characters of context": (json.dumps({"input": "a", "context": "a " * 500_000}).encode(), 400),
    "a million escapes": (b'{"input": "' + b"\\u0000" * 600_000 + b'"}', 400),
    "unknown keys in many turns": wrong(input=[TURN] * 500),
    "a million contexts that are none": wrong(input="a", context=[1] * 1_000_000),
}
STATED: Bodies = {
    "a hundred thousand questions": wrong(model="a", state="a", questions=dict.fromkeys(map(str, range(100_000)), 1)),
    "labels of many questions": wrong(
        model="a",
        state="a",
        questions={str(i): {"type": "choice", "criteria": dict.fromkeys(map(str, range(255)), 1)} for i in range(128)},
    ),
    "a hundred thousand labels": wrong(
        model="a", state="a", questions={"a": {"type": "choice", "criteria": dict.fromkeys(map(str, range(100_000)), 1)}}
    ),
    "empty parts in a state": wrong(model="a", state=EMPTY_PARTS, questions={}),
}
DECIDED: Bodies = {
    "empty parts in many turns": wrong(model="a", input=EMPTY_PARTS, questions=[]),
    "unknown keys in many turns of an input": wrong(model="a", input=[TURN] * 512, questions=[]),
    "unknown keys in many questions": wrong(model="a", input="a", questions=[{"type": "predicate", **MANY_KEYS}] * 400),
    "empty parts in many questions": wrong(
        model="a", input="a", questions=[{"type": "predicate", "instructions": [{}] * 512}] * 400
    ),
    "empty choices in many questions": wrong(
        model="a", input="a", questions=[{"type": "choice", "instructions": "a", "choices": [{}] * 255}] * 400
    ),
    "empty levels in many questions": wrong(
        model="a", input="a", questions=[{"type": "score", "instructions": "a", "levels": [{}] * 255}] * 400
    ),
}
CHATTED: Bodies = {
    "empty parts in many messages": wrong(model="a", messages=EMPTY_PARTS),
    "unknown keys in many messages": wrong(model="a", messages=[TURN] * 512),
    "a million stops": wrong(model="a", messages=[TURN], stop=[1] * 1_000_000),
}
BODIES: dict[str, Bodies] = {
    ROUTE: EVERYWHERE | JUDGED,
    SYSTEMONE: EVERYWHERE | STATED | DECIDED,
    DECISIONS: EVERYWHERE | STATED | DECIDED,
    chat.PATH: EVERYWHERE | CHATTED,
    feedback.PATH: EVERYWHERE,
}
"""What each route that reads a body is sent."""


def sent(client: httpx2.Client, route: str, name: str) -> httpx2.Response:
    """The answer of `route` to the body of that name."""
    body = BODIES[route][name][0]
    headers = {"Content-Type": "application/json"} | ({"Content-Encoding": "gzip"} if "bomb" in name else {})
    return client.post(route, content=body() if callable(body) else body, headers=headers)


def check_refusals(process: int, url: str, *others: int) -> None:
    """Assert that each of `BODIES` is refused as it has to be, or with one of the `others`, in less than a second of work."""
    with httpx2.Client(base_url=url, timeout=60) as client:
        for route, name, status in [
            (route, name, body[1]) for route, bodies in BODIES.items() for name, body in bodies.items()
        ]:
            began, place = worked(process), f"{name}, {route}"
            try:
                answer = sent(client, route, name)
            except (httpx2.WriteError, httpx2.RemoteProtocolError):  # hung up on before the whole body was sent
                assert status == 413, place
                continue
            assert answer.status_code in (status, *others), place
            assert len(answer.content) < 1000, place
            ErrorResponse.model_validate_json(answer.content)
            assert worked(process) - began < 1, place


def test_hostile_bodies_are_refused_at_once_in_little_memory_also_while_others_wait(server: tuple[int, str]) -> None:
    process, url = server
    body = {"input": [SURE] * 128}
    for _ in range(2):
        assert httpx2.post(f"{url}{ROUTE}", json=body, timeout=30).status_code == 200
    before = resident(process, "VmRSS")
    check_refusals(process, url)
    with ThreadPoolExecutor(16) as others:
        waiting = [others.submit(httpx2.post, f"{url}{ROUTE}", json=body, timeout=60) for _ in range(16)]
        check_refusals(process, url, 429)  # where there is no room, nobody reads what is short
        assert {call.result().status_code for call in waiting} <= {200, 429}
    assert resident(process, "VmHWM") - before <= 64 * MEBIBYTE
    assert httpx2.post(f"{url}{ROUTE}", json={"input": SURE}, timeout=30).status_code == 200


def test_every_route_that_reads_a_body_is_sent_hostile_ones() -> None:
    paths = served().get("/openapi.json").json()["paths"]
    assert {path for path, verbs in paths.items() for verb in verbs.values() if "requestBody" in verb} == BODIES.keys()


STEPS = [
    "../",
    "..\\",
    "%2e%2e/",
    "%2e%2e%2f",
    "..%2f",
    "\u2024\u2024/",
    "\uff0e\uff0e/",
    ".\u200b./",
    "file:///",
    "\\\\host\\",
    "~/",
    "/",
]
ENDS = [
    "judge",
    "etc/passwd",
    "a:b",
    "a;rm -rf x",
    "a\nb",
    "a\r\nX-Evil: 1",
    "a\0",
    "$(id)",
    "`id`",
    "${HOME}",
    "judge.json%00",
    "x" * 4000,
]
NAMES = [
    *(step * times + end for step in STEPS for times in (1, 8) for end in ENDS[:8]),
    *ENDS[2:],
    *(f"kt/fake{end}" for end in ("/..", "\n", " ", "\0", "/", "%00", ":latest", "\u202e")),
]
"""Names that point elsewhere, if anyone followed them."""


def test_no_name_leads_anywhere() -> None:
    assert len(set(NAMES)) >= 200
    words = set()
    with served(keys=KEYS) as client:
        for name in NAMES:
            answer = client.post(ROUTE, json={"input": SURE, "model": name}, headers=bearer("all"))
            assert told(answer)[0] in (404, 422), name
            words.add(answer.json()["error"]["message"])
            answer = client.post("/v1/feedback", json={"id": name, "correct": True}, headers=bearer("all"))
            assert told(answer)[0] in (404, 422), name
    assert len(words) == 2  # it is too long, or there is no such model: nothing of the name itself


def test_no_name_that_leads_elsewhere_is_a_keys_name(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    for name in NAMES:
        file.write_text(json.dumps({"keys": [{"name": name, "sha256": "a" * 64, "scopes": [Scope.JUDGE]}]}))
        with pytest.raises(ConfigError, match=r"keys\.0\.name"):
            read_keys(file)
