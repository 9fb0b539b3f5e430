"""The HTTP clients against a service on a loopback port: typed answers, its errors, and what is tried again until when."""

from __future__ import annotations

import asyncio
import json
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from unittest.mock import DEFAULT, Mock

import pytest

from know_thyself.asking import Asked
from know_thyself.client import AsyncKnowThyself, KnowThyself, http
from know_thyself.client.exchange import NO_KEY, PIECE, body_of
from know_thyself.errors import INTERNAL, UNREACHABLE, ConfigError, DataError, RemoteError
from know_thyself.testing import FakeJudge, fake_confidence
from know_thyself.wire import ChatMessage, ErrorItem, JudgmentItem, JudgmentResponse
from serve.api import create_app
from serve.policy import read_policy
from tests.serve.apps import CHAT, HISTORY, KEYS, SURE, UNSURE, running, scripted

Ask = Callable[..., Any]


def ask_sync(url: str, verb: str, *sent: Any, settings: dict[str, Any] | None = None, **more: Any) -> Any:
    with KnowThyself(url, **(settings or {})) as client:
        return getattr(client, verb)(*sent, **more)


def ask_async(url: str, verb: str, *sent: Any, settings: dict[str, Any] | None = None, **more: Any) -> Any:
    async def ask() -> Any:
        async with AsyncKnowThyself(url, **(settings or {})) as client:
            return await getattr(client, verb)(*sent, **more)

    return asyncio.run(ask())


both = pytest.mark.parametrize("ask", [ask_sync, ask_async], ids=["sync", "async"])


JUDGE = FakeJudge()


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(JUDGE, read_policy(), KEYS)) as address:
        yield address


KEY = {"api_key": "judge"}


@both
def test_a_question_gets_a_typed_judgment(url: str, ask: Ask) -> None:
    judgment = ask(url, "judge", SURE, settings=KEY)
    assert isinstance(judgment, JudgmentItem)
    assert (judgment.verdict, judgment.decision, judgment.threshold_source) == ("can", "answer", "default")
    assert judgment.p_correct == pytest.approx(fake_confidence(Asked(text=SURE)))
    assert ask(f"{url}/v1/", "judge", UNSURE, settings=KEY).decision == "escalate"


@both
def test_contexts_chats_and_bars_are_sent(url: str, ask: Ask) -> None:
    judgment = ask(url, "judge", CHAT, "Born in Quorn.", target_accuracy=0.9, settings=KEY)
    assert (judgment.threshold, judgment.threshold_source) == (0.85, "request")
    assert JUDGE.asked[-1] == [Asked(text="Where was she born?", context="Born in Quorn.", history=tuple(HISTORY))]
    turns = [ChatMessage(role=turn["role"], content=turn["content"]) for turn in CHAT]  # type: ignore[arg-type]
    assert ask(url, "judge", turns, threshold=0.1, settings=KEY).threshold == 0.1
    assert JUDGE.asked[-1][0].history == tuple(HISTORY)


@both
def test_what_the_service_refuses_is_raised_with_its_message_and_code(url: str, ask: Ask) -> None:
    for sent, settings, status, code in (
        ({"item": " "}, KEY, 400, "empty_input"),
        ({"item": "half \ud800"}, KEY, 400, "invalid_text"),
        ({"item": SURE, "target_accuracy": 0.96}, KEY, 400, "not_reachable"),
        ({"item": SURE}, {"api_key": "nobody"}, 401, "invalid_api_key"),
        ({"item": SURE}, {"api_key": "feedback"}, 403, "missing_scope"),
    ):
        with pytest.raises(RemoteError) as caught:
            ask(url, "judge", settings=settings, **sent)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert len(str(caught.value).splitlines()) == 1
        copied = pickle.loads(pickle.dumps(caught.value))
        assert (str(copied), copied.code, copied.status) == (str(caught.value), code, status)


@both
@pytest.mark.parametrize(
    ("sent", "told"),
    [
        ({"item": 3}, "input: give a text, or a list of turns"),
        ({"item": [SURE, UNSURE]}, r"input\.chat\.0: Input should be a valid dictionary"),
        ({"item": [{"role": "user"}]}, r"input\.chat\.0\.content: Field required"),
        ({"item": SURE, "threshold": 2}, "request.threshold: Input should be less than or equal to 1"),
        ({"item": SURE, "threshold": 0.5, "target_accuracy": 0.9}, "request: threshold and target_accuracy say the same"),
    ],
)
def test_what_is_no_question_is_refused_before_it_is_sent(ask: Ask, sent: dict[str, Any], told: str) -> None:
    with pytest.raises(DataError, match=told):
        ask("http://127.0.0.1:1", "judge", **sent)


@both
def test_many_are_judged_in_their_order_with_what_is_wrong_in_its_place(ask: Ask) -> None:
    items = [f"What is thing {i}?" for i in range(3 * PIECE + 5)]
    items[2], items[PIECE], items[PIECE + 1] = "", "half \ud800", "word " * 300
    contexts = [None if i % 2 else "Quorn." for i in range(len(items))]
    with scripted() as (address, app):
        found = ask(address, "judge_many", items, contexts, threshold=0.4, settings={"concurrency": 2})
    assert [item.index for item in found] == list(range(len(items)))
    wrong = {item.index: item.error.code for item in found if isinstance(item, ErrorItem)}
    assert wrong == {2: "empty_input", PIECE: "invalid_text", PIECE + 1: "input_too_long"}
    for item, text in zip(found, items, strict=True):
        if isinstance(item, JudgmentItem):
            assert item.p_correct == pytest.approx(fake_confidence(Asked(text=text)))
            assert item.threshold == 0.4
    assert len(app.paths) == 4
    assert app.most <= 2


@both
def test_none_and_chats_among_many_are_taken_and_contexts_counted(ask: Ask) -> None:
    with scripted() as (address, app):
        assert ask(address, "judge_many", []) == []
        assert app.paths == []
        first, second = ask(address, "judge_many", [CHAT, SURE])
        assert first.p_correct != second.p_correct
        with pytest.raises(DataError, match="1 contexts for 2 inputs"):
            ask(address, "judge_many", [SURE, SURE], ["Quorn."])
        with pytest.raises(DataError, match="input 1: give a text, or a list of turns"):
            ask(address, "judge_many", [SURE, 3])


BUSY = json.dumps({"error": {"message": "too many wait", "type": "server_error", "param": None, "code": "judge_busy"}}).encode()


@both
@pytest.mark.parametrize("status", [429, 503])
def test_the_service_is_asked_again_when_it_says(ask: Ask, status: int) -> None:
    with scripted((status, {"retry-after": "1"}, BUSY)) as (address, app):
        began = time.monotonic()
        assert ask(address, "judge", SURE, settings={"timeout": 5}).verdict == "can"
        assert time.monotonic() - began >= 1
        assert len(app.paths) == 2


@both
def test_a_service_that_says_no_time_is_asked_again_soon(ask: Ask) -> None:
    with scripted(*[(503, {}, BUSY)] * 3) as (address, app):
        assert ask(address, "judge", SURE, settings={"timeout": 3}).verdict == "can"
        assert len(app.paths) == 4


@both
@pytest.mark.parametrize(
    "seconds", ["60", format_datetime(datetime.now(UTC) + timedelta(hours=1), usegmt=True)], ids=["seconds", "a date"]
)
def test_nobody_waits_past_the_deadline(ask: Ask, seconds: str) -> None:
    with scripted((503, {"retry-after": seconds}, BUSY)) as (address, app):
        with pytest.raises(RemoteError, match="too many wait") as caught:
            ask(address, "judge", SURE, settings={"timeout": 5})
        assert (caught.value.code, caught.value.status, len(app.paths)) == ("judge_busy", 503, 1)
        assert caught.value.retry_after is not None
        assert caught.value.retry_after >= 59


@both
def test_a_service_that_stays_busy_is_given_up_in_time(ask: Ask) -> None:
    with scripted(*[(503, {}, BUSY)] * 1000) as (address, app):
        began = time.monotonic()
        with pytest.raises(RemoteError, match="too many wait"):
            ask(address, "judge", SURE, settings={"timeout": 1})
        assert time.monotonic() - began < 5
        assert len(app.paths) > 1


@both
@pytest.mark.parametrize("status", [500, 502, 504])
def test_what_a_proxy_says_of_a_replica_that_died_is_asked_again(ask: Ask, status: int) -> None:
    with scripted((status, {}, b"Internal Server Error")) as (address, app):
        assert ask(address, "judge", SURE, settings={"timeout": 3}).verdict == "can"
        assert len(app.paths) == 2


@both
@pytest.mark.parametrize(
    ("status", "code"), [(400, "judge_busy"), (401, "judge_busy"), (404, "judge_busy"), (422, "judge_busy"), (500, INTERNAL)]
)
def test_what_does_not_pass_by_itself_is_asked_once(ask: Ask, status: int, code: str) -> None:
    with scripted((status, {"retry-after": "0"}, BUSY.replace(b"judge_busy", code.encode()))) as (address, app):
        with pytest.raises(RemoteError):
            ask(address, "judge", SURE)
        assert len(app.paths) == 1


@both
@pytest.mark.parametrize(("status", "body"), [(200, b"{}"), (200, b"<html>"), (404, b"<html>"), (302, b"")])
def test_an_answer_of_another_shape_is_told_as_such(ask: Ask, status: int, body: bytes) -> None:
    with scripted((status, {}, body)) as (address, _), pytest.raises(RemoteError, match="of another shape") as caught:
        ask(address, "judge", SURE)
    assert (caught.value.code, caught.value.status) == ("unreadable", status)


@both
def test_an_answer_whose_encoding_is_broken_is_unreadable(ask: Ask) -> None:
    with scripted((200, {"content-encoding": "gzip"}, b"no gzip")) as (address, app):
        with pytest.raises(RemoteError, match=r"cannot be read .DecodingError") as caught:
            ask(address, "judge", SURE)
        assert (caught.value.code, len(app.paths)) == ("unreadable", 1)


@both
def test_one_piece_that_fails_costs_no_other(ask: Ask) -> None:
    with scripted((503, {"retry-after": "60"}, BUSY)) as (address, _):
        found = ask(address, "judge_many", [SURE] * (PIECE + 1), settings={"timeout": 5, "concurrency": 1})
    failed = [item.index for item in found if isinstance(item, ErrorItem)]
    assert failed == list(range(PIECE))
    assert (found[0].error.code, found[PIECE].index) == ("judge_busy", PIECE)


@both
def test_an_error_that_meets_all_of_many_is_raised(url: str, ask: Ask) -> None:
    with pytest.raises(RemoteError) as caught:
        ask(url, "judge_many", [SURE] * 100, settings={"api_key": "nobody"})
    assert caught.value.code == "invalid_api_key"


@both
def test_many_wait_for_a_service_that_is_not_there_no_longer_than_one(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(RemoteError, match="cannot be reached") as caught:
        ask(f"http://127.0.0.1:{port}", "judge_many", [SURE] * 12 * PIECE, settings={"timeout": 2, "concurrency": 2})
    assert caught.value.code == UNREACHABLE
    assert time.monotonic() - began < 4


@both
def test_a_service_that_goes_away_costs_no_judgment_that_was_made(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = RemoteError("gone", UNREACHABLE)
    with scripted() as (address, _):
        monkeypatch.setattr(http, "body_of", Mock(wraps=body_of, side_effect=[DEFAULT, lost, DEFAULT]))
        found = ask(address, "judge_many", [SURE] * (2 * PIECE + 1), settings={"concurrency": 1})
    failed = [item.index for item in found if isinstance(item, ErrorItem)]
    assert failed == list(range(PIECE, 2 * PIECE))
    assert (found[PIECE].error.code, found[0].verdict, found[-1].verdict) == (UNREACHABLE, "can", "can")


def some_answer() -> bytes:
    """What a service sends, as it goes over the line."""
    example: Any = JudgmentResponse.model_config["json_schema_extra"]
    answer = {**example["examples"][0], "data": example["examples"][0]["data"][:1]}
    body = json.dumps(answer).encode()
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s" % (len(body), body)


@both
def test_a_connection_that_is_lost_is_made_again(ask: Ask) -> None:
    def serve(listener: socket.socket) -> None:
        listener.accept()[0].close()
        with listener.accept()[0] as connection:
            connection.recv(65536)
            connection.sendall(some_answer())

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        assert ask(f"http://127.0.0.1:{listener.getsockname()[1]}", "judge", SURE).verdict == "can"
        thread.join()


@both
def test_a_service_that_is_not_there_is_told_with_its_address(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(RemoteError, match=f"127.0.0.1:{port} cannot be reached .ConnectError") as caught:
        ask(f"http://127.0.0.1:{port}", "judge", SURE, settings={"timeout": 0.5})
    assert (caught.value.code, caught.value.status) == ("unreachable", None)
    with pytest.raises(RemoteError, match=r"judge\.example cannot be asked"):
        ask("judge.example", "judge", SURE)


@both
def test_a_key_is_taken_without_the_space_around_it(url: str, ask: Ask) -> None:
    assert ask(url, "judge", SURE, settings={"api_key": " judge\r\n"}).verdict == "can"


@pytest.mark.parametrize("client", [KnowThyself, AsyncKnowThyself])
@pytest.mark.parametrize("key", ["schlüssel", "hunter\n2", "\n", "hunter2\x7f"])
def test_a_key_that_cannot_be_sent_is_refused_unseen(client: type[KnowThyself | AsyncKnowThyself], key: str) -> None:
    with pytest.raises(ConfigError, match=f"^{NO_KEY}$"):
        client("http://127.0.0.1", api_key=key)


def test_a_key_is_shown_nowhere() -> None:
    assert "hunter2" not in repr(vars(KnowThyself("http://127.0.0.1", api_key="hunter2")))


def test_the_clients_load_with_their_first_use() -> None:
    code = (
        "import sys, know_thyself.client; print('httpx2' in sys.modules); know_thyself.client.KnowThyself; print(*sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert said[0] == "False"
    loaded = {name.partition(".")[0] for name in said[1].split()}
    assert "httpx2" in loaded
    assert loaded & {"torch", "ray", "vllm", "transformers", "numpy", "pyarrow", "fastapi"} == set()
