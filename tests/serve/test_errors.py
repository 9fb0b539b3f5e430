"""What is no success: one shape for all, told at once, and nothing that was asked in any log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive, Scope, Send

from know_thyself.errors import EngineError
from know_thyself.testing import FakeAnswerer, FakeJudge
from know_thyself.wire import AUTO, ChatCompletion, ErrorItem, ErrorResponse, JudgmentResponse
from serve.judging import BusyError
from serve.middleware import BodyCap
from serve.routes import chat
from tests.serve.apps import KEYS, ROUTE, SURE, bearer, post, served

JSON = {"Content-Type": "application/json"}


def failing(failure: Exception | None) -> FakeJudge:
    judge = FakeJudge()
    judge.failure = failure
    return judge


def told(answer: Any) -> tuple[int, str, str]:
    """Status, type and code of an error, which has to be of the one shape."""
    error = ErrorResponse.model_validate_json(answer.content).error
    assert error.message
    return answer.status_code, error.type, error.code


@pytest.mark.parametrize(
    ("failure", "error", "seconds"),
    [
        (EngineError("no memory at /models/secret"), (503, "server_error", "judge_failed"), "5"),
        (BusyError(3), (429, "rate_limit_error", "judge_busy"), "3"),
    ],
    ids=["failed", "busy"],
)
def test_a_judge_that_cannot_be_asked_is_told_with_the_time_to_come_back(
    failure: Exception, error: tuple[int, str, str], seconds: str
) -> None:
    judge = failing(failure)
    client = served(judge)
    answer = post(client, {"input": SURE})
    assert told(answer) == error
    assert answer.headers["retry-after"] == seconds
    assert "secret" not in answer.text
    assert told(client.get("/health/ready")) == (503, "server_error", "not_ready")
    assert client.get("/health/live").json() == {"status": "alive"}
    judge.failure = None
    assert client.get("/health/ready").json() == {"status": "ready"}
    assert post(client, {"input": SURE}).status_code == 200


class Full(FakeJudge):
    """A judge that has room for `room` questions."""

    room = 8

    def check_room(self, number: int) -> None:
        if number > self.room:
            raise BusyError(1)


@pytest.mark.parametrize("route", ["/v1/judgments", "/v1/systemone", "/v1/decisions"])
def test_what_a_judge_has_no_room_for_is_not_even_read(route: str) -> None:
    """A short body is known to hold few questions; of a long one, and one that does not say its length, nothing is known."""
    judge = Full()
    client, caller, no_json = served(judge, keys=KEYS), JSON | bearer("judge"), b"{" * 20
    judge.room = 0
    answer = client.post(route, content=no_json, headers=caller)
    assert told(answer) == (429, "rate_limit_error", "judge_busy")
    assert answer.headers["retry-after"] == "1"
    assert told(client.post(route, content=no_json))[0] == 401
    assert told(client.post(route, content=iter([no_json]), headers=caller))[0] == 400
    assert told(client.post(route, content=no_json * 1000, headers=caller))[0] == 400
    judge.room = 8
    assert told(client.post(route, content=no_json, headers=caller))[0] == 400
    assert told(client.post(route, content=no_json * 20, headers=caller))[0] == 429


def test_a_judge_that_says_too_little_shifts_no_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    judge = FakeJudge()
    monkeypatch.setattr(judge, "judge_each", lambda asked: FakeJudge().judge_each(asked)[1:])
    assert told(post(served(judge), {"input": [SURE, "Who?"]})) == (503, "server_error", "judge_failed")


def test_what_nobody_thought_of_is_told_in_the_same_shape() -> None:
    answer = post(served(failing(ZeroDivisionError("at secret"))), {"input": SURE})
    assert told(answer) == (500, "server_error", "internal_error")
    assert "secret" not in answer.text


def in_pieces(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b"[" * 1000


def test_a_body_that_is_too_long_is_refused_whether_it_says_so_or_not() -> None:
    judge = FakeJudge()
    client = served(judge, max_body=10_000)
    fitting = json.dumps({"input": ["x" * 9000, "Who?"]}).encode()
    assert client.post(ROUTE, content=fitting, headers=JSON).status_code == 200
    bodies: list[Any] = [b"[" * 10_001, in_pieces(11_000), fitting + b" " * 2000]
    for body in bodies:
        answer = client.post(ROUTE, content=body, headers=JSON)
        assert told(answer) == (413, "invalid_request_error", "body_too_large")
    assert len(judge.asked) == 1


@pytest.mark.parametrize(("length", "reads"), [(b"", 3), (b"2500", 3), (b"2501", 0), (b"9" * 5000, 0), (b"-1", 3), (b"2e9", 3)])
def test_a_body_is_read_no_further_than_it_may_be_long(length: bytes, reads: int) -> None:
    seen = 0

    async def receive() -> Message:
        nonlocal seen
        seen += 1
        return {"type": "http.request", "body": b"[" * 1000, "more_body": True}

    async def send(_: Message) -> None:
        raise AssertionError("nothing is sent by a reader")

    async def reader(_: Scope, receive: Receive, __: Send) -> None:
        while True:
            await receive()

    scope = {"type": "http", "headers": [(b"content-length", length)]}
    with pytest.raises(HTTPException) as caught:
        asyncio.run(BodyCap(reader, 2500)(scope, receive, send))
    assert (caught.value.status_code, seen) == (413, reads)


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"", JSON, 422),
        (b"{", JSON, 400),
        (b"\xff\xfe{", JSON, 400),
        (b"[" * 100_000, JSON, 400),
        (b'{"input": ' + b"9" * 5000 + b"}", JSON, 400),
        (b"\x1f\x8b\x08\x00", {**JSON, "Content-Encoding": "gzip"}, 400),
        (b'{"input": "a"}', {"Content-Type": "text/plain"}, 422),
        (b'{"input": "a"}', {}, 422),
        (b"input=a", {"Content-Type": "application/x-www-form-urlencoded"}, 422),
        (b'{"input": "a", "threshold": NaN}', JSON, 422),
        (b'{"input": "a", "threshold": Infinity}', JSON, 422),
        (b'{"input": "a", "\\ud800": 1}', JSON, 422),
        (b'{"input": [{"role": "user", "content": "a", "\\ud800": 1}]}', JSON, 422),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(body: bytes, headers: dict[str, str], status: int) -> None:
    assert told(served().post(ROUTE, content=body, headers=headers))[:2] == (status, "invalid_request_error")


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", ROUTE, 405), ("POST", "/v1/nothing", 404), ("GET", "/docs", 404)]
)
def test_what_is_not_there_is_told_in_the_same_shape(method: str, path: str, status: int) -> None:
    assert told(served().request(method, path))[0] == status


def test_the_access_log_names_route_status_and_key_and_nothing_that_was_sent(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = served(keys=KEYS)
    secret = "the merger with Quorn"
    post(client, {"input": secret, "context": secret}, **bearer("all"))
    post(client, {"input": secret, secret: secret}, **bearer("all"))
    client.post(f"{ROUTE}/{secret}", params={"key": "hunter2"}, headers=bearer("hunter2"))
    client.post(ROUTE, headers=bearer("hunter2"))
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("serve")]
    assert [" ".join(line.split()[i] for i in (0, 1, 2, 5)) for line in lines] == [
        f"POST {ROUTE} 200 key=all",
        f"POST {ROUTE} 422 key=all",
        "POST unmatched 404 key=-",
        f"POST {ROUTE} 401 key=-",
    ]
    assert secret not in "\n".join(lines)
    assert "hunter2" not in "\n".join(lines)


def test_a_judge_that_failed_is_in_the_log_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    post(served(failing(EngineError("no memory\nat 0x0"))), {"input": SURE})
    assert [record.getMessage() for record in caplog.records if record.name == "serve"] == ["the judge failed: no memory"]


def test_the_counters_tell_judgments_refusals_and_requests_of_this_app_alone() -> None:
    client = served()
    post(client, {"input": [SURE, "", SURE]})
    post(client, {"input": ""})
    client.get("/nothing/secret")
    text = client.get("/metrics").text
    assert 'kt_judgments_total{decision="answer",verdict="can"} 2.0' in text
    assert 'kt_refusals_total{fault="empty_input"} 1.0' in text
    assert 'kt_confidence_bucket{le="0.9"} 0.0' in text
    assert "kt_confidence_count 2.0" in text
    assert f'kt_requests_total{{route="{ROUTE}",status="200"}} 1.0' in text
    assert f'kt_requests_total{{route="{ROUTE}",status="400"}} 1.0' in text
    assert f'kt_request_seconds_count{{route="{ROUTE}"}} 2.0' in text
    assert 'kt_requests_total{route="unmatched",status="404"} 1.0' in text
    assert "secret" not in text
    assert "kt_confidence_count 0.0" in served().get("/metrics").text


TEXTS = (
    st.text(st.characters(), max_size=12)
    | st.sampled_from(["", " ", "\ud800"])
    | st.sampled_from([300, 40_000]).map("a ".__mul__)
)
TURNS = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool"]) | TEXTS},
    optional={"content": TEXTS | st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": TEXTS}), max_size=2)},
)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | TURNS
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=8
)
INPUTS = TEXTS | st.lists(TURNS, max_size=4) | st.lists(TEXTS | st.lists(TURNS, max_size=3), max_size=4) | ANYTHING
BODIES = st.fixed_dictionaries(
    {"input": INPUTS},
    optional={
        "context": TEXTS | st.lists(st.none() | TEXTS, max_size=4) | ANYTHING,
        "model": st.none() | st.just("kt/fake") | TEXTS,
        "threshold": st.none() | st.floats(),
        "target_accuracy": st.none() | st.sampled_from([0.8, 0.9, 0.99]) | st.floats(),
    },
)


SERVED = served(answerer=FakeAnswerer())


@given(BODIES | ANYTHING)
def test_no_body_breaks_the_service_and_every_answer_is_of_its_schema(body: object) -> None:
    answer = post(SERVED, body)
    assert answer.status_code in (200, 400, 404, 422)
    if answer.status_code != 200:
        told(answer)
        return
    found = JudgmentResponse.model_validate_json(answer.content)
    assert [item.index for item in found.data] == list(range(len(found.data)))
    assert not all(isinstance(item, ErrorItem) for item in found.data) or found.usage.total_tokens == 0


CHATS = st.fixed_dictionaries(
    {"model": st.just(AUTO) | st.just("kt/fake") | TEXTS, "messages": st.lists(TURNS, max_size=3) | ANYTHING},
    optional={
        "stream": st.booleans() | ANYTHING,
        "max_tokens": st.none() | st.integers() | ANYTHING,
        "temperature": st.none() | st.floats(),
        "stop": TEXTS | st.lists(TEXTS, max_size=2) | ANYTHING,
        "n": st.integers(),
        "response_format": st.fixed_dictionaries({"type": st.sampled_from(["text", "json_object"])}) | ANYTHING,
        "tools": ANYTHING,
    },
)


@given(CHATS | st.dictionaries(TEXTS, ANYTHING, max_size=3))
def test_no_chat_breaks_the_service(body: object) -> None:
    answer = SERVED.post(chat.PATH, content=json.dumps(body), headers=JSON)
    assert answer.status_code in (200, 400, 404, 422)
    if answer.status_code != 200:
        told(answer)
    elif answer.headers["content-type"] == "application/json":
        ChatCompletion.model_validate_json(answer.content)
    else:
        assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("path", [ROUTE, chat.PATH])
@given(body=st.binary(max_size=200))
def test_no_bytes_break_the_service(path: str, body: bytes) -> None:
    assert told(SERVED.post(path, content=body, headers=JSON))[0] in (400, 422)
