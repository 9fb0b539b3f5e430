"""What is escalated: the upstream gets the question and its own key, its reply comes back whole, and its failures as ours."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from openai import OpenAI

from know_thyself.errors import ConfigError
from know_thyself.testing import FakeAnswerer, FakeJudge, fake_answer
from know_thyself.wire import AUTO
from serve.api import create_app
from serve.auth import Keys
from serve.completions import event
from serve.policy import GatePolicy, Policy, UpstreamPolicy
from tests.serve.apps import HISTORY, SURE, UNSURE, policy_of, running

KEY = "hunter2"
USAGE = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
CHUNKS = ("I ", "know.")


UNSPEAKABLE = {
    "not a number": '{"choices": NaN}',
    "half a character": r'{"choices": "\ud800"}',
    "deep": f'{{"choices": {"[" * 100_000}{"]" * 100_000}}}',
    "a long number": f'{{"choices": {"9" * 5000}}}',
}
"""Completions that are no JSON for others, or none that could be read."""


class Neighbour:
    """An upstream that behaves as it is told, and notes what it was sent."""

    def __init__(self) -> None:
        self.behaviour, self.wait = "well", ""
        self.charset = "utf-8"
        self.sent: list[tuple[dict[str, str], dict[str, Any]]] = []
        self.app = FastAPI()
        self.app.add_api_route("/v1/chat/completions", self.reply, methods=["POST"])

    async def reply(self, request: Request) -> Response:
        body = await request.json()
        self.sent.append((dict(request.headers), body))
        if self.behaviour == "silent":
            while not await request.is_disconnected():
                await asyncio.sleep(0.01)
        if self.behaviour == "no JSON":
            return Response("<html>secret</html>")
        if self.behaviour == "no completion":
            return JSONResponse({"secret": True})
        if self.behaviour in UNSPEAKABLE:
            return Response(UNSPEAKABLE[self.behaviour], media_type="application/json")
        if self.behaviour.isdigit():
            error = {"error": {"message": "secret", "code": "secret"}}
            return JSONResponse(error, int(self.behaviour), {"Retry-After": self.wait})
        return self.streamed() if body.get("stream") else JSONResponse(self.whole())

    def whole(self) -> dict[str, Any]:
        choice = {"index": 0, "message": {"role": "assistant", "content": "I know.", "refusal": None}, "finish_reason": "stop"}
        return {
            "id": "up-1",
            "object": "chat.completion",
            "created": 1,
            "model": "large-1",
            "choices": [choice],
            "usage": USAGE,
        }

    def streamed(self) -> Response:
        async def events() -> AsyncIterator[str]:
            base = {"id": "up-1", "object": "chat.completion.chunk", "created": 1, "model": "large-1"}
            yield ": are we there yet\n\n"
            for place, piece in enumerate(CHUNKS):
                choice = {"index": 0, "delta": {"content": piece}, "finish_reason": None}
                yield event(json.dumps({**base, "choices": [choice]}))
                if self.behaviour == "torn" and place == 0:
                    yield 'data: {"id": "up-'
                    raise ConnectionResetError
                if self.behaviour == "short" and place == 0:
                    return
            yield event("[DONE]")

        kind = f"text/event-stream; charset={self.charset}"
        return StreamingResponse(events(), headers={"Content-Type": kind, "x-kt-decision": "spoofed"})


def gate_of(url: str, **settings: Any) -> GatePolicy:
    """A gate that escalates to `url`."""
    upstream = UpstreamPolicy(base_url=url, model="large", key_variable="UPSTREAM_KEY", timeout_seconds=0.3)
    return GatePolicy(**{"below": "escalate", "upstream": upstream, **settings})


@pytest.fixture(scope="module")
def key() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UPSTREAM_KEY", f" {KEY}\n")
        yield


@pytest.fixture(scope="module")
def escalating(key: None) -> Iterator[tuple[Neighbour, OpenAI]]:
    """An upstream, and a stock client of the gate before it."""
    neighbour = Neighbour()
    with running(neighbour.app) as url:
        app = create_app(FakeJudge(), policy_of(gate=gate_of(f"{url}/v1/")), Keys(), FakeAnswerer())
        with running(app) as gate, OpenAI(base_url=f"{gate}/v1", api_key="mine", max_retries=0) as client:
            yield neighbour, client


@pytest.fixture
def neighbour(escalating: tuple[Neighbour, OpenAI]) -> Neighbour:
    escalating[0].behaviour, escalating[0].charset = "well", "utf-8"
    escalating[0].sent.clear()
    return escalating[0]


@pytest.fixture
def client(escalating: tuple[Neighbour, OpenAI]) -> OpenAI:
    return escalating[1]


def ask(client: OpenAI, text: str = UNSURE, **settings: Any) -> tuple[Any, Any]:
    """What is said to `text`, and the headers."""
    body = {"model": AUTO, "messages": [*HISTORY, {"role": "user", "content": text}], **settings}
    raw = client.chat.completions.with_raw_response.create(**body)
    return raw.parse(), raw.headers


def test_what_does_not_pass_is_answered_by_the_upstream(neighbour: Neighbour, client: OpenAI) -> None:
    said, headers = ask(client, max_tokens=5, temperature=0.2, stop=["x"])
    assert said.model_dump(exclude_unset=True) == neighbour.whole()
    assert headers["x-kt-decision"] == "escalate"
    assert headers["x-kt-verdict"] == "cannot"
    ((sent, body),) = neighbour.sent
    assert sent["authorization"] == f"Bearer {KEY}"
    assert body == {
        "model": "large",
        "messages": [*HISTORY, {"role": "user", "content": UNSURE}],
        "max_tokens": 5,
        "temperature": 0.2,
        "stop": ["x"],
    }


def test_what_passes_never_leaves(neighbour: Neighbour, client: OpenAI) -> None:
    said, headers = ask(client, messages=[{"role": "user", "content": SURE}])
    assert said.choices[0].message.content == fake_answer(SURE)
    assert headers["x-kt-decision"] == "answer"
    assert neighbour.sent == []


def test_a_stream_of_the_upstream_is_passed_on_with_our_headers(neighbour: Neighbour, client: OpenAI) -> None:
    stream, headers = ask(client, stream=True)
    assert [(chunk.model, chunk.choices[0].delta.content) for chunk in stream] == [("large-1", piece) for piece in CHUNKS]
    assert headers["x-kt-decision"] == "escalate"
    assert neighbour.sent[0][1]["stream"] is True


@pytest.mark.parametrize("charset", ["utf-7", "hex", "idna"])
def test_a_stream_is_read_as_what_it_is_whatever_its_header_says(neighbour: Neighbour, client: OpenAI, charset: str) -> None:
    neighbour.charset = charset
    stream, _ = ask(client, stream=True)
    assert [chunk.choices[0].delta.content for chunk in stream] == [*CHUNKS]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        ("500", 502, "upstream_failed"),
        ("401", 502, "upstream_failed"),
        ("404", 502, "upstream_failed"),
        ("307", 502, "upstream_failed"),
        ("no JSON", 502, "upstream_failed"),
        ("no completion", 502, "upstream_failed"),
        ("silent", 504, "upstream_timeout"),
    ],
)
def test_an_upstream_that_fails_is_told_without_its_words(
    neighbour: Neighbour, client: OpenAI, behaviour: str, status: int, code: str, stream: bool
) -> None:
    neighbour.behaviour = behaviour
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, stream=stream)
    assert (caught.value.status_code, caught.value.code, caught.value.type) == (status, code, "server_error")
    assert caught.value.response.headers["x-kt-decision"] == "escalate"
    assert "secret" not in caught.value.response.text


@pytest.mark.parametrize("behaviour", UNSPEAKABLE)
def test_a_completion_that_cannot_be_passed_on_is_a_failure_of_the_upstream(
    neighbour: Neighbour, client: OpenAI, behaviour: str
) -> None:
    neighbour.behaviour = behaviour
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client)
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_failed")
    assert caught.value.response.headers["x-kt-decision"] == "escalate"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", ["400", "413", "422"])
def test_what_the_upstream_refuses_is_not_worth_asking_again(
    neighbour: Neighbour, client: OpenAI, status: str, stream: bool
) -> None:
    neighbour.behaviour = status
    with pytest.raises(openai.BadRequestError, match=f"refuses this request .its answer has status {status}.") as caught:
        ask(client, stream=stream)
    assert (caught.value.code, caught.value.type) == ("upstream_refused", "invalid_request_error")
    assert caught.value.response.headers["x-kt-decision"] == "escalate"
    assert "secret" not in caught.value.response.text


WAITS = {"7": "7", "86400": "86400", **dict.fromkeys(["0", "", "-1", "1.5", "999999", "9" * 5000, "soon", "²"])}
"""What an upstream may say of how long to wait, and what is told of it."""


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("wait", "told"), WAITS.items(), ids=[wait[:10] for wait in WAITS])
def test_an_upstream_that_is_asked_too_much_says_when_to_come_back(
    neighbour: Neighbour, client: OpenAI, wait: str, told: str | None, stream: bool
) -> None:
    neighbour.behaviour, neighbour.wait = "429", wait
    with pytest.raises(openai.RateLimitError) as caught:
        ask(client, stream=stream)
    assert (caught.value.code, caught.value.type) == ("upstream_busy", "rate_limit_error")
    assert caught.value.response.headers.get("retry-after") == told
    assert caught.value.response.headers["x-kt-decision"] == "escalate"
    assert "secret" not in caught.value.response.text


@pytest.mark.parametrize("behaviour", ["torn", "short"])
def test_an_upstream_that_breaks_off_is_told_by_the_last_event(neighbour: Neighbour, client: OpenAI, behaviour: str) -> None:
    neighbour.behaviour = behaviour
    stream, _ = ask(client, stream=True)
    assert next(stream).choices[0].delta.content == CHUNKS[0]
    with pytest.raises(openai.APIError, match="the upstream failed") as caught:
        next(stream)
    assert caught.value.code == "upstream_failed"


def test_an_upstream_that_is_not_there_is_told(key: None, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with running(FastAPI()) as url:
        pass
    with (
        running(create_app(FakeJudge(), policy_of(gate=gate_of(url)), Keys(), FakeAnswerer())) as gate,
        OpenAI(base_url=f"{gate}/v1", api_key="mine", max_retries=0) as client,
        pytest.raises(openai.InternalServerError, match="the upstream failed"),
    ):
        ask(client)
    lines = [record.getMessage() for record in caplog.records if record.name.startswith(("serve", "httpx2", "httpcore2"))]
    assert "the upstream failed: ConnectError" in lines
    assert KEY not in "\n".join(lines)


def test_all_that_passes_can_be_escalated_and_the_rest_met_with_an_abstention(neighbour: Neighbour, client: OpenAI) -> None:
    with running(neighbour.app) as url:
        policy = policy_of(gate=gate_of(f"{url}/v1", passing="escalate", below="abstain"))
        with (
            running(create_app(FakeJudge(), policy, Keys())) as gate,
            OpenAI(base_url=f"{gate}/v1", api_key="mine", max_retries=0) as other,
        ):
            passing = [{"role": "user", "content": SURE}]
            assert ask(other, messages=passing)[1]["x-kt-decision"] == "escalate"
            assert ask(other)[0].choices[0].message.content == "I do not know."
    assert [body["messages"] for _, body in neighbour.sent] == [passing]


@pytest.mark.parametrize("value", [None, "", " \n", "schlüssel", "two\nlines"])
def test_a_key_that_is_not_there_is_told_before_anything_is_served(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("UPSTREAM_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("UPSTREAM_KEY", value)
    with pytest.raises(ConfigError, match="UPSTREAM_KEY holds no key for the upstream: export it, or leave key_variable out"):
        create_app(FakeJudge(), policy_of(gate=gate_of("http://127.0.0.1:9")), Keys(), FakeAnswerer())


def test_an_upstream_without_a_key_gets_none() -> None:
    neighbour = Neighbour()
    with running(neighbour.app) as url:
        upstream = UpstreamPolicy(base_url=f"{url}/v1", model="large")
        policy = Policy(default=policy_of(0.5).default, gate=GatePolicy(below="escalate", upstream=upstream))
        app = create_app(FakeJudge(), policy, Keys(), FakeAnswerer())
        with running(app) as gate, OpenAI(base_url=f"{gate}/v1", api_key="mine", max_retries=0) as client:
            ask(client)
    assert "authorization" not in neighbour.sent[0][0]
