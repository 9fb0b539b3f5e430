"""The formats of decision models: only what is registered is answered, by the calibrated number, in the published shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from know_thyself.asking import Asked
from know_thyself.errors import ConfigError
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.wire import Bar, ErrorResponse
from serve.policy import LabelMap, Policy, Registered, read_policy
from tests.serve.apps import (
    CHAT,
    DECISIONS,
    HALF,
    HISTORY,
    KEYS,
    SURE,
    SYSTEMONE,
    UNSURE,
    bearer,
    decisions,
    served,
    systemone,
    three_verdicts,
)

MODEL = f"kt/fake@{fake_card().digest[:12]}"
TIERS = {"SIMPLE": "a lookup", "MEDIUM": "some thought", "COMPLEX": "much thought", "REASONING": "a proof"}
PREDICATE = {"type": "predicate", "name": "can_answer", "instructions": "?"}
PHRASE = sorted(read_policy().questions.phrases)[0]
P = {text: pytest.approx(fake_confidence(Asked(text=text))) for text in (SURE, HALF, UNSURE)}
REST = {text: pytest.approx(1 - fake_confidence(Asked(text=text))) for text in (SURE, HALF, UNSURE)}


def litellm(state: str) -> dict[str, Any]:
    """The body that LiteLLM's auto router sends, key for key."""
    question = {"type": "choice", "instructions": "Pick the tier.", "criteria": TIERS}
    return {"state": state, "model": "kt/fake", "questions": {"tier": question}}


def error(answer: Any) -> tuple[int, str, str | None]:
    told = ErrorResponse.model_validate_json(answer.content).error
    return answer.status_code, told.code, told.param


@pytest.mark.parametrize("path", [SYSTEMONE, DECISIONS])
@pytest.mark.parametrize("text", [SURE, UNSURE])
def test_either_path_answers_either_shape_with_no_key_more_than_published(path: str, text: str) -> None:
    client = served()
    assert client.post(path, json=systemone(text)).json() == {
        "model": MODEL,
        "answers": {"can_answer": {"type": "noul", "noul": P[text]}},
        "usage": {"input_tokens": 4, "output_tokens": 0},
    }
    assert client.post(path, json=decisions(text)).json() == {
        "model": MODEL,
        "answers": [{"type": "predicate", "name": "can_answer", "probability": P[text]}],
        "usage": {
            "input_tokens": 4,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": 0,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 4,
        },
    }


@pytest.mark.parametrize(("text", "tier", "confidence"), [(SURE, "SIMPLE", True), (UNSURE, "REASONING", False)])
def test_the_body_of_the_auto_router_gets_the_tier_that_the_threshold_chooses(text: str, tier: str, confidence: bool) -> None:
    p = fake_confidence(Asked(text=text))
    assert served().post(SYSTEMONE, json=litellm(text)).json() == {
        "model": MODEL,
        "answers": {
            "tier": {
                "type": "choice",
                "choice": tier,
                "probabilities": {"SIMPLE": P[text], "MEDIUM": 0, "COMPLEX": 0, "REASONING": REST[text]},
                "confidence": pytest.approx((4 * max(p, 1 - p) - 1) / 3),
            }
        },
        "usage": {"input_tokens": 4, "output_tokens": 0},
    }


def test_probabilities_are_not_bent_to_the_choice() -> None:
    policy = Policy(default=Bar(threshold=0.9), questions=read_policy().questions)
    answer = served(policy=policy).post(SYSTEMONE, json=litellm(HALF))
    tier = answer.json()["answers"]["tier"]
    assert (tier["choice"], tier["probabilities"]["SIMPLE"]) == ("REASONING", P[HALF])
    assert (answer.headers["x-kt-decision"], answer.headers["x-kt-threshold"]) == ("escalate", "0.9")


@pytest.mark.parametrize(
    ("state", "text", "in_domain"),
    [
        (SURE, SURE, "true"),
        (f"System prompt:\nBe brief.\n\nRequest:\n{SURE}", SURE, "false"),
        (f"System prompt:\nBe brief.\n\nRequest:\nA\n\nRequest:\n{SURE}", f"A\n\nRequest:\n{SURE}", "false"),
        (f"Request:\n{SURE}", f"Request:\n{SURE}", "true"),
        (f"\nClassify this message:\n{SURE}", SURE, "true"),
        (f"\nCaller system prompt, quoted as task context:\nBe brief.\n\nClassify this message:\n{SURE}", SURE, "false"),
        (f"Earlier turns.\n\n{SURE}", f"Earlier turns.\n\n{SURE}", "false"),
    ],
    ids=["bare", "system text", "a second mark", "no system text", "later, alone", "later, system text", "paragraphs"],
)
def test_the_request_alone_is_judged_and_what_stood_before_it_is_told_as_out_of_domain(
    state: str, text: str, in_domain: str
) -> None:
    judge = FakeJudge()
    answer = served(judge).post(SYSTEMONE, json=litellm(state))
    assert judge.asked == [[Asked(text=text)]]
    assert answer.headers["x-kt-in-domain"] == in_domain


def test_a_chat_is_judged_with_its_turns_in_either_shape() -> None:
    judge = FakeJudge()
    client = served(judge)
    turns = [{**turn, "type": "message"} for turn in CHAT]
    pieces = [{"role": "user", "content": [{"type": "input_text", "text": SURE}]}]
    whole, same, alone = (client.post(DECISIONS, json=body) for body in (systemone(CHAT), decisions(turns), decisions(pieces)))
    assert [answer.headers["x-kt-in-domain"] for answer in (whole, same, alone)] == ["false", "false", "true"]
    born = Asked(text="Where was she born?", history=tuple(HISTORY))
    assert judge.asked == [[born], [born], [Asked(text=SURE)]]


def test_the_headers_tell_the_judgment_whole() -> None:
    headers = served(keys=KEYS).post(SYSTEMONE, json=systemone(), headers=bearer("strict")).headers
    calibration = fake_card().calibration
    assert calibration is not None
    assert float(headers["x-kt-p-correct"]) == P[SURE]
    assert headers["x-kt-judgment-id"].startswith("jdg-")
    assert headers["server-timing"].startswith("judge;dur=")
    assert {name: headers[f"x-kt-{name}"] for name in ("schema-version", "verdict", "decision", "threshold")} == {
        "schema-version": "1",
        "verdict": "can",
        "decision": "answer",
        "threshold": "0.97",
    }
    assert headers["x-kt-calibration-id"] == calibration.id


@pytest.mark.parametrize("path", [SYSTEMONE, DECISIONS])
def test_the_bar_is_that_of_the_path(path: str) -> None:
    client = served(policy=Policy(default=Bar(threshold=0.1), routes={path: Bar(threshold=0.99)}))
    decided = {one: client.post(one, json=decisions()).headers["x-kt-decision"] for one in (SYSTEMONE, DECISIONS)}
    assert decided.pop(path) == "escalate"
    assert set(decided.values()) == {"answer"}


ASKED = {
    "by name": ({"name": "can_answer", "instructions": "Well?"}, True),
    "by phrase": ({"name": "other", "instructions": f" {PHRASE}\n"}, True),
    "nearly by name": ({"name": "can_answer_it", "instructions": "Well?"}, False),
    "nearly by phrase": ({"name": "other", "instructions": f"{PHRASE} Or is it spam?"}, False),
    "nothing of ours": ({"name": "spam", "instructions": "Is this spam?"}, False),
}


@pytest.mark.parametrize(("question", "ours"), ASKED.values(), ids=ASKED)
def test_a_yes_or_no_question_is_ours_by_its_name_or_its_phrase_alone(question: dict[str, Any], ours: bool) -> None:
    client = served()
    one, other = client.post(SYSTEMONE, json=systemone(**question)), client.post(DECISIONS, json=decisions(**question))
    if ours:
        assert (one.status_code, other.json()["answers"][0]["type"]) == (200, "predicate")
    else:
        assert error(one) == (422, "unregistered_question", f"questions.{question['name']}")
        assert other.json()["answers"] == [{"type": "refusal", "name": question["name"]}]


def test_what_is_refused_alone_asks_no_judge_and_beside_others_keeps_its_place() -> None:
    judge = FakeJudge()
    client = served(judge)
    spam = {"type": "predicate", "instructions": "Is this spam?"}
    rate = {"type": "score", "name": "rate", "instructions": "How hard?", "levels": [{"label": "a"}, {"label": "b"}]}
    alone = client.post(DECISIONS, json={"model": "kt/fake", "input": SURE, "questions": [spam]})
    assert (alone.json()["answers"], alone.json()["usage"]["total_tokens"]) == ([{"type": "refusal", "name": None}], 0)
    assert not [name for name in alone.headers if name.startswith("x-kt-")]
    assert judge.asked == []
    mixed = client.post(DECISIONS, json={"model": "kt/fake", "input": SURE, "questions": [spam, PREDICATE, rate]}).json()
    assert [answer["type"] for answer in mixed["answers"]] == ["refusal", "predicate", "refusal"]
    assert [len(call) for call in judge.asked] == [1]
    both = {"can_answer": {"type": "noul"}, "spam": {"type": "noul"}}
    refused = client.post(SYSTEMONE, json={"model": "kt/fake", "state": SURE, "questions": both})
    assert error(refused) == (422, "unregistered_question", "questions.spam")
    assert len(judge.asked) == 1
    assert 'kt_refusals_total{fault="unregistered_question"} 4.0' in client.get("/metrics").text


LABELS = st.one_of(st.sampled_from([*TIERS, "yes", "no", "simple", "true"]), st.text(max_size=8))
NEVER_ASKED = FakeJudge()
UNASKED, CLIENT = served(NEVER_ASKED), served()
REGISTERED = {mapped.labels for mapped in read_policy().questions.label_maps}


@settings(max_examples=40)
@given(st.lists(LABELS, min_size=2, max_size=6, unique=True).filter(lambda labels: frozenset(labels) not in REGISTERED))
def test_no_labels_but_those_registered_are_chosen_between(labels: list[str]) -> None:
    criteria = dict.fromkeys(labels, "what it is for")
    choices = [{"value": label} for label in labels]
    assert error(post(UNASKED, systemone(type="choice", criteria=criteria)))[:2] == (422, "unregistered_question")
    refused = post(UNASKED, decisions(type="choice", choices=choices)).json()
    assert refused["answers"] == [{"type": "refusal", "name": "can_answer"}]
    assert NEVER_ASKED.asked == []


def post(client: TestClient, body: object) -> Any:
    return client.post(SYSTEMONE, content=json.dumps(body), headers={"Content-Type": "application/json"})


@given(st.permutations(sorted(TIERS)))
def test_registered_labels_are_chosen_between_in_any_order_and_told_in_theirs(labels: list[str]) -> None:
    one = post(CLIENT, systemone(type="choice", criteria=dict.fromkeys(labels, "")))
    other = post(CLIENT, decisions(type="choice", choices=[{"value": label} for label in labels]))
    assert list(one.json()["answers"]["can_answer"]["probabilities"]) == labels
    told = other.json()["answers"][0]
    assert [share["value"] for share in told["probabilities"]] == labels
    assert sum(share["probability"] for share in told["probabilities"]) == pytest.approx(1)
    assert set(told) == {"type", "name", "choice", "probabilities", "confidence"}


def test_the_words_true_and_false_are_not_the_values() -> None:
    words = Registered(label_maps=(LabelMap(can="True", cannot="False"),))
    client = served(policy=Policy(default=Bar(threshold=0.5), questions=words))
    for values, kind in ((["True", "False"], "choice"), ([True, False], "refusal")):
        body = decisions(type="choice", choices=[{"value": value} for value in values])
        assert client.post(DECISIONS, json=body).json()["answers"][0]["type"] == kind


BODIES = {
    "key of a body": ({**systemone(), "stream": False}, "stream"),
    "key of the other shape": ({**decisions(), "temperature": 0}, "temperature"),
    "key of a question": (systemone(threshold=0.5), "questions.can_answer.threshold"),
    "both shapes": ({**systemone(), "input": SURE}, "body"),
    "neither shape": ({"model": "kt/fake"}, "body"),
    "score": (systemone(type="score", name="rate"), "questions.rate.type"),
    "choice without labels": (systemone(type="choice"), "questions.can_answer"),
    "criteria of neither truth": (systemone(criteria={"maybe": "?"}), "questions.can_answer"),
    "state of another kind": (systemone({"question": SURE}), "state"),
    "questions of the other shape": ({**systemone(), "questions": [PREDICATE]}, "questions"),
    "no questions": ({**decisions(), "questions": []}, "questions"),
    "image": (decisions([{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]), "input.0.content.0.type"),
    "tool": (decisions([{"type": "function_call_output", "call_id": "1", "output": "x"}]), "input.0.type"),
    "a value twice": (decisions(type="choice", choices=[{"value": True}, {"value": True}]), "questions.0"),
    "key of a predicate": (decisions(choices=[{"value": "a"}, {"value": "b"}]), "questions.0.choices"),
    "no model": ({"state": SURE, "questions": {"can_answer": {"type": "noul"}}}, "model"),
}


@pytest.mark.parametrize(("body", "param"), BODIES.values(), ids=BODIES)
def test_a_body_of_any_other_shape_is_refused_at_its_place(body: dict[str, Any], param: str) -> None:
    judge = FakeJudge()
    status, _, told = error(served(judge).post(SYSTEMONE, json=body))
    assert (status, told) == (422, param)
    assert judge.asked == []


@pytest.mark.parametrize(("body", "param"), [(systemone(" "), "state"), (decisions(""), "input")])
def test_an_input_that_cannot_be_judged_is_refused(body: dict[str, Any], param: str) -> None:
    client = served()
    assert error(client.post(SYSTEMONE, json=body)) == (400, "empty_input", param)
    assert 'kt_refusals_total{fault="empty_input"} 1.0' in client.get("/metrics").text


def test_only_the_judge_that_is_served_can_be_asked() -> None:
    assert error(served().post(SYSTEMONE, json={**systemone(), "model": "jev-latest"})) == (404, "model_not_found", "model")


@pytest.mark.parametrize("body", [systemone(), decisions(), litellm(SURE)], ids=["noul", "predicate", "choice"])
def test_a_judge_without_calibration_gives_no_probability(body: dict[str, Any]) -> None:
    answer = served(FakeJudge(three_verdicts(calibration=None))).post(DECISIONS, json=body)
    assert error(answer) == (422, "not_calibrated", "model")


NAMES = st.sampled_from(["can_answer", "tier", "", "\ud800", "x" * 129]) | st.text(max_size=5)
PHRASES = st.sampled_from([PHRASE, "", "\ud800"])
CRITERIA = st.none() | st.just(TIERS) | st.dictionaries(NAMES, PHRASES, max_size=3)
KINDS = st.sampled_from(["noul", "choice", "predicate", "score", ""])
CHOICES = st.lists(st.fixed_dictionaries({"value": NAMES | st.booleans() | st.integers()}), max_size=4)
ASKED_ONE = st.fixed_dictionaries({"type": KINDS}, optional={"instructions": PHRASES, "criteria": CRITERIA})
ASKED_OTHER = st.fixed_dictionaries(
    {"type": KINDS, "instructions": PHRASES}, optional={"name": NAMES, "choices": CHOICES, "levels": CHOICES}
)
SAID: st.SearchStrategy[Any] = st.sampled_from([SURE, "", "\ud800", "a " * 300, CHAT, CHAT[:1], [], [1], {}, None])
ANY_BODY = st.fixed_dictionaries(
    {"model": st.just("kt/fake") | NAMES},
    optional={
        "state": SAID,
        "input": SAID,
        "questions": st.dictionaries(NAMES, ASKED_ONE, max_size=3) | st.lists(ASKED_OTHER, max_size=3),
    },
)


@settings(max_examples=60)
@given(ANY_BODY)
def test_no_body_breaks_the_service(body: object) -> None:
    answer = post(CLIENT, body)
    assert answer.status_code in (200, 400, 404, 422), answer.text
    if answer.status_code != 200:
        assert ErrorResponse.model_validate_json(answer.content).error.message


@pytest.mark.parametrize(
    "body",
    [systemone(name="\ud800", instructions=PHRASE), decisions(name="\ud800"), decisions(name="\ud800", instructions=PHRASE)],
)
def test_a_name_of_half_a_character_is_refused(body: object) -> None:
    assert post(CLIENT, body).status_code == 422


def test_labels_that_are_registered_twice_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    one = '[[questions.label_maps]]\ncan = "a"\ncannot = "b"\n'
    for text, told in ((one + one, "have the same labels"), (one + 'others = ["a"]\n', "a label is there twice")):
        file.write_text(f"[default]\nthreshold = 0.5\n{text}")
        with pytest.raises(ConfigError, match=told):
            read_policy(file)


def client_of(judge: FakeJudge | None = None, key: str = "judge") -> openai.OpenAI:
    """The stock client of OpenAI on the service."""
    http = served(judge, keys=KEYS)
    return openai.OpenAI(base_url="http://testserver/v1", api_key=key, http_client=http, max_retries=0)


def test_the_stock_client_reads_every_kind_of_answer() -> None:
    choices: list[Any] = [{"value": tier, "description": told} for tier, told in TIERS.items()]
    decision = client_of().decisions.create(
        model="kt/fake",
        input=[{"role": "user", "content": SURE}],
        questions=[
            {"type": "predicate", "name": "can_answer", "instructions": "Can the model answer this?"},
            {"type": "choice", "name": "tier", "instructions": "Which tier?", "choices": choices},
            {"type": "choice", "name": "mood", "instructions": "?", "choices": [{"value": "good"}, {"value": "bad"}]},
        ],
        prompt_cache_key="one",
        safety_identifier="two",
    )
    predicate, tier, mood = decision.answers
    assert predicate.type == "predicate"
    assert predicate.name == "can_answer"
    assert predicate.probability == P[SURE]
    assert tier.type == "choice"
    assert (tier.choice, [share.value for share in tier.probabilities]) == ("SIMPLE", list(TIERS))
    assert (mood.type, mood.name) == ("refusal", "mood")
    assert (decision.model, decision.usage.total_tokens) == (MODEL, 4)
    assert decision.usage.input_tokens_details.cached_tokens == 0


def test_the_stock_client_raises_its_own_errors() -> None:
    asked: Any = {"input": SURE, "questions": [PREDICATE]}
    with pytest.raises(openai.NotFoundError) as caught:
        client_of().decisions.create(model="gpt-6-luna", **asked)
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        client_of(key="nobody").decisions.create(model="kt/fake", **asked)
    with pytest.raises(openai.PermissionDeniedError):
        client_of(key="feedback").decisions.create(model="kt/fake", **asked)
    with pytest.raises(openai.UnprocessableEntityError):
        client_of(FakeJudge(fake_card(calibration=None))).decisions.create(model="kt/fake", **asked)
