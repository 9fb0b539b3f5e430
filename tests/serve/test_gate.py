"""The gate, as the stock OpenAI client meets it: judge first, then answer or abstain, and tell the decision in headers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import openai
import pytest
from openai import OpenAI

from know_thyself.asking import Asked, Opinion, Refusal, Sampling
from know_thyself.errors import ConfigError, EngineError
from know_thyself.testing import FakeAnswerer, FakeJudge, fake_answer, fake_card, fake_confidence
from know_thyself.wire import AUTO, Bar
from serve.api import create_app
from serve.auth import Keys
from serve.judging import BusyError
from serve.policy import GatePolicy, Policy
from serve.routes.chat import PATH
from tests.serve.apps import CHAT, HISTORY, KEYS, SURE, UNSURE, bearer, policy_of, running, served, three_verdicts

GATE = GatePolicy(abstention="Better ask someone else.")
CHUNKS = {"stream": True, "stream_options": {"include_usage": True}}


class Gated:
    """A gate of fakes that is being served, and a stock client of it."""

    def __init__(self, judge: FakeJudge, answerer: FakeAnswerer, client: OpenAI) -> None:
        self.judge, self.answerer, self.client = judge, answerer, client

    def ask(self, text: str = SURE, **settings: Any) -> tuple[Any, dict[str, str]]:
        """What is said to `text`, and the headers of the gate without their prefix."""
        body = {"model": AUTO, "messages": [{"role": "user", "content": text}], **settings}
        raw = self.client.chat.completions.with_raw_response.create(**body)
        return raw.parse(), told(raw.headers)


def told(headers: Any) -> dict[str, str]:
    """The headers of the gate, without their prefix."""
    return {name.removeprefix("x-kt-"): value for name, value in headers.items() if name.startswith("x-kt-")}


@contextmanager
def gated(judge: FakeJudge | None = None, policy: Policy | None = None) -> Iterator[Gated]:
    """A gate of `judge` under `policy`."""
    judge, answerer = judge or FakeJudge(), FakeAnswerer()
    app = create_app(judge, policy or policy_of(gate=GATE), Keys(), answerer)
    with running(app) as url, OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield Gated(judge, answerer, client)


@pytest.fixture(scope="module")
def gate() -> Iterator[Gated]:
    with gated() as found:
        yield found


def test_what_passes_is_answered(gate: Gated) -> None:
    said, headers = gate.ask()
    (choice,) = said.choices
    assert (choice.message.role, choice.message.content, choice.finish_reason) == ("assistant", fake_answer(SURE), "stop")
    assert (said.object, said.model) == ("chat.completion", AUTO)
    assert said.id.startswith("chatcmpl-")
    assert said.created > 1_700_000_000
    assert (said.usage.prompt_tokens, said.usage.completion_tokens, said.usage.total_tokens) == (4, 2, 6)
    card = fake_card()
    assert headers.pop("judgment-id").startswith("jdg-")
    assert float(headers.pop("p-correct")) == pytest.approx(fake_confidence(Asked(text=SURE)))
    assert headers == {
        "schema-version": "1",
        "verdict": "can",
        "decision": "answer",
        "threshold": "0.5",
        "calibration-id": card.calibration.id if card.calibration else "",
    }


def test_what_does_not_pass_is_met_with_the_abstention_of_the_policy(gate: Gated) -> None:
    asked = len(gate.answerer.asked)
    said, headers = gate.ask(UNSURE)
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("Better ask someone else.", "stop")
    assert (said.usage.prompt_tokens, said.usage.completion_tokens) == (4, 0)
    assert (headers["decision"], headers["verdict"]) == ("abstain", "cannot")
    assert len(gate.answerer.asked) == asked


@pytest.mark.parametrize(
    ("text", "pieces", "decision", "usage"),
    [(SURE, fake_answer(SURE).replace(" ", "| "), "answer", 6), (UNSURE, "Better ask someone else.", "abstain", 4)],
    ids=["answer", "abstention"],
)
def test_a_stream_has_the_pieces_in_order_the_usage_last_and_the_same_headers(
    gate: Gated, text: str, pieces: str, decision: str, usage: int
) -> None:
    stream, headers = gate.ask(text, **CHUNKS)
    *chunks, closing, last = list(stream)
    assert "|".join(chunk.choices[0].delta.content for chunk in chunks) == pieces
    assert [chunk.choices[0].delta.role for chunk in chunks] == ["assistant", *[None] * (len(chunks) - 1)]
    assert [chunk.choices[0].finish_reason for chunk in (*chunks, closing)] == [*[None] * len(chunks), "stop"]
    assert len({chunk.id for chunk in (*chunks, closing, last)}) == 1
    assert {chunk.object for chunk in (*chunks, closing, last)} == {"chat.completion.chunk"}
    assert last.choices == []
    assert last.usage.total_tokens == usage
    assert headers["decision"] == decision
    assert headers.keys() == gate.ask(text)[1].keys()


def test_a_stream_without_options_has_no_usage(gate: Gated) -> None:
    stream, _ = gate.ask(stream=True)
    assert all(chunk.choices and chunk.usage is None for chunk in stream)


def test_a_stream_is_events_up_to_its_end() -> None:
    client = served(answerer=FakeAnswerer())
    body = {"model": AUTO, "messages": [{"role": "user", "content": SURE}], "stream": True}
    answer = client.post(PATH, json=body)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert all(event.startswith("data: {") for event in events[:-2])
    assert events[-2:] == ["data: [DONE]", ""]


def test_the_answer_is_drawn_as_it_was_asked(gate: Gated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.gate.secrets.randbelow", lambda _: 0)
    gate.ask()
    said, _ = gate.ask(max_tokens=9, max_completion_tokens=1, temperature=0.7, top_p=0.9, seed=3, user="me", n=1)
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("value", "length")
    said, _ = gate.ask(stop=["nothing", "ue"], response_format={"type": "text"})
    assert (said.choices[0].message.content, said.choices[0].finish_reason) == ("val", "stop")
    assert gate.ask(stop="l")[0].choices[0].message.content == "va"
    assert [sampling for _, sampling in gate.answerer.asked[-4:]] == [
        Sampling(),
        Sampling(max_tokens=1, temperature=0.7, top_p=0.9, seed=3),
        Sampling(stop=("nothing", "ue")),
        Sampling(stop=("l",)),
    ]


def test_who_names_no_seed_is_given_another_answer_each_time(gate: Gated) -> None:
    for _ in range(3):
        gate.ask(temperature=1.0)
    assert len({sampling.seed for _, sampling in gate.answerer.asked[-3:]}) == 3


def test_the_whole_chat_is_judged_and_answered(gate: Gated) -> None:
    echoed: dict[str, Any] = {"refusal": None, "annotations": [], "tool_calls": None, "function_call": None, "audio": None}
    told = [{"role": "developer", "content": "Be brief."}, HISTORY[0], {**HISTORY[1], **echoed}, CHAT[-1]]
    gate.ask(messages=told)
    asked = Asked(text=CHAT[-1]["content"], history=({"role": "system", "content": "Be brief."}, *HISTORY))
    assert gate.judge.asked[-1] == [asked]


def test_a_reply_can_be_sent_back_as_it_came(gate: Gated) -> None:
    said, _ = gate.ask()
    gate.ask(messages=[{"role": "user", "content": SURE}, said.choices[0].message, {"role": "user", "content": "Why?"}])
    assert gate.judge.asked[-1][0].history[1] == {"role": "assistant", "content": fake_answer(SURE)}


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"extra_body": {"surprise": 1}}, "surprise"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(gate: Gated, settings: dict[str, Any], name: str) -> None:
    judged = len(gate.judge.asked)
    with pytest.raises(openai.BadRequestError, match=f"{name} is not supported here: leave it out") as caught:
        gate.ask(**settings)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", name)
    assert len(gate.judge.asked) == judged


@pytest.mark.parametrize(
    ("settings", "error", "param"),
    [
        ({"messages": []}, openai.UnprocessableEntityError, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, openai.BadRequestError, "messages"),
        ({"messages": HISTORY}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": "x " * 257}]}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "tool", "content": "1", "tool_call_id": "a"}]}, openai.UnprocessableEntityError, None),
        ({"model": "gpt-4"}, openai.NotFoundError, "model"),
        ({"temperature": 3}, openai.UnprocessableEntityError, "temperature"),
        ({"max_tokens": 0}, openai.UnprocessableEntityError, "max_tokens"),
        ({"stop": [""]}, openai.UnprocessableEntityError, "stop"),
    ],
    ids=["no turns", "blank", "no question", "too long", "tool", "model", "temperature", "max_tokens", "stop"],
)
def test_what_is_wrong_is_told_with_its_place(
    gate: Gated, settings: dict[str, Any], error: type[openai.APIStatusError], param: str | None
) -> None:
    asked = len(gate.answerer.asked)
    with pytest.raises(error) as caught:
        gate.ask(**settings)
    assert caught.value.param == param or param is None
    assert len(gate.answerer.asked) == asked


def test_the_bar_is_that_of_the_key_else_of_the_route() -> None:
    policy = policy_of(0.5, gate=GATE, routes={PATH: Bar(threshold=0.99)})
    body = {"model": AUTO, "messages": [{"role": "user", "content": SURE}]}
    answer = served(policy=policy, answerer=FakeAnswerer()).post(PATH, json=body)
    assert (answer.headers["x-kt-decision"], answer.headers["x-kt-threshold"]) == ("abstain", "0.99")
    answer = served(policy=policy, keys=KEYS, answerer=FakeAnswerer()).post(PATH, json=body, headers=bearer("strict"))
    assert answer.headers["x-kt-threshold"] == "0.97"


def test_a_judge_that_is_not_calibrated_tells_no_probability() -> None:
    judge = FakeJudge(three_verdicts(calibration=None))
    with gated(judge, Policy(default=Bar(target_accuracy=0.9), gate=GATE)) as gate:
        said, headers = gate.ask()
    assert said.choices[0].message.content == fake_answer(SURE)
    assert headers.keys() == {"schema-version", "judgment-id", "verdict", "decision"}


class Silent(FakeJudge):
    """A judge that never comes to an end."""

    async def judge(self, asked: Sequence[Asked]) -> list[Opinion | Refusal]:
        await asyncio.Event().wait()
        return []


def failing(failure: Exception) -> FakeJudge:
    judge = FakeJudge()
    judge.failure = failure
    return judge


@pytest.mark.parametrize(
    ("failing_is", "decision", "said"), [("open", "answer", fake_answer(SURE)), ("closed", "abstain", "No.")]
)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("judge", "how"),
    [(failing(EngineError("no memory")), "failed"), (failing(BusyError(3)), "busy"), (Silent(), "timeout")],
    ids=["failed", "busy", "timeout"],
)
def test_a_judge_that_says_nothing_in_time_is_told_with_what_the_policy_did(
    judge: FakeJudge, how: str, stream: bool, failing_is: Any, decision: str, said: str
) -> None:
    policy = policy_of(gate=GatePolicy(failing=failing_is, budget_ms=20, abstention="No."))
    client = served(judge, policy, answerer=FakeAnswerer())
    body = {"model": AUTO, "messages": [{"role": "user", "content": SURE}], "stream": stream}
    answer = client.post(PATH, json=body)
    assert answer.status_code == 200
    assert told(answer.headers) == {"schema-version": "1", "decision": decision, "judge": how}
    if not stream:
        assert answer.json()["choices"][0]["message"]["content"] == said
    assert f'kt_judge_failures_total{{decision="{decision}",how="{how}"}} 1.0' in client.get("/metrics").text


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("failure", "code", "seconds"),
    [(EngineError("at /models/secret"), "answerer_failed", "5"), (BusyError(1), "answerer_busy", "1")],
)
def test_an_answerer_that_fails_is_told_with_the_decision(failure: Exception, code: str, seconds: str, stream: bool) -> None:
    with gated() as gate:
        gate.answerer.failure = failure
        with pytest.raises(openai.InternalServerError) as caught:
            gate.ask(stream=stream)
    assert (caught.value.status_code, caught.value.code) == (503, code)
    assert "secret" not in str(caught.value)
    assert caught.value.response.headers["x-kt-decision"] == "answer"
    assert caught.value.response.headers["retry-after"] == seconds


def test_an_answerer_that_fails_amid_a_stream_is_told_by_its_last_event() -> None:
    with gated() as gate:
        gate.answerer.failure, gate.answerer.pieces = EngineError("gone"), 1
        stream, _ = gate.ask(stream=True)
        assert next(stream).choices[0].delta.content == "value"
        with pytest.raises(openai.APIError, match="the model that answers failed") as caught:
            next(stream)
    assert caught.value.code == "answerer_failed"


def test_the_models_are_the_judge_and_the_gate_where_there_is_one(gate: Gated) -> None:
    assert [model.id for model in gate.client.models.list()] == ["kt/fake", AUTO]
    assert [model["id"] for model in served().get("/v1/models").json()["data"]] == ["kt/fake"]


def test_without_a_gate_its_model_is_not_there_and_the_remedy_is_told() -> None:
    answer = served().post(PATH, json={"model": AUTO, "messages": [{"role": "user", "content": SURE}]})
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == "model_not_found"
    assert "start with --answer, or add [gate] to the policy" in answer.json()["error"]["message"]


def test_a_gate_that_has_nothing_to_answer_with_or_never_does_is_refused_before_anything_is_served() -> None:
    with pytest.raises(ConfigError, match="no model that answers what passes: give --answer"):
        create_app(FakeJudge(), policy_of(gate=GATE), Keys())
    upstream: Any = {"base_url": "http://127.0.0.1:9/v1", "model": "large"}
    policy = policy_of(gate=GatePolicy(passing="escalate", upstream=upstream))
    with pytest.raises(ConfigError, match="nothing is answered here: leave --answer out"):
        create_app(FakeJudge(), policy, Keys(), FakeAnswerer())


def test_nothing_that_was_asked_or_answered_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for judge in (FakeJudge(), failing(EngineError("no memory\nat 0x0"))):
        client = served(judge, policy_of(0.0, gate=GATE), answerer=FakeAnswerer())
        client.post(PATH, json={"model": AUTO, "messages": [{"role": "user", "content": "the merger with Quorn"}]})
    lines = [record.getMessage() for record in caplog.records if record.name.startswith("serve")]
    assert "the judge failed: no memory" in lines
    assert "Quorn" not in "\n".join(lines)
    assert fake_answer("the merger with Quorn") not in "\n".join(lines)
