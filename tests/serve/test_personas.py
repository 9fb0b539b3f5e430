"""The judge as routers ask it: bodies as they send them, replies that they can read, and nothing for anyone else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from httpx2 import Response

from know_thyself.asking import Asked
from know_thyself.judge import JudgeCard
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.wire import AUTO
from serve.routes.chat import PATH
from tests.serve.apps import HALF, SURE, UNSURE, policy_of, served, three_verdicts

RULES = ["SUP-1", "SUP-2", "SUP-3", "SUP-4", "SUP-5", "UNC-1", "UNC-2", "LIM-1", "LIM-2", "none"]
BOUNDARIES = ["supported", "uncertain", "unsupported", "unmatched"]
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["crux", "primary_rule", "capability_boundary", "p_solve"],
    "properties": {
        "crux": {"type": "string", "minLength": 1},
        "primary_rule": {"type": "string", "enum": RULES},
        "capability_boundary": {"type": "string", "enum": BOUNDARIES},
        "p_solve": {"type": "number", "minimum": 0.0, "maximum": 1.0},
    },
}
FORECASTER = (
    "Forecast whether the efficient agent succeeds. Pick primary_rule=none and capability_boundary=unmatched when no rule "
    "applies. State the crux, and p_solve last. Return one JSON object."
)


def chat(system: str | None, *asked: str) -> list[dict[str, str]]:
    told = [] if system is None else [{"role": "system", "content": system}]
    return [*told, *({"role": "user", "content": text} for text in asked)]


FORECAST: dict[str, Any] = {
    "model": "kt/fake",
    "messages": chat(FORECASTER, SURE),
    "max_tokens": 4096,
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "CapabilityClassifierDecision", "strict": True, "schema": SCHEMA},
    },
}
"""As NeMo Switchyard's `llm_classifier` and LiteLLM's `capability` ask."""
LOOSE_FORECAST = {**FORECAST, "response_format": {"type": "json_object"}}
"""As LiteLLM's `capability` asks with `response_format: json_object`."""
RUBRIC = "Classify the complexity of the user request.\n\nTiers:\n- SIMPLE: lookups.\n- REASONING: proofs."
TIER: dict[str, Any] = {
    "model": "kt/fake",
    "messages": chat(None, f"{RUBRIC}\n\nContext: Be brief.\n\nRequest:\n{SURE}"),
    "response_format": {
        "type": "json_schema",
        "json_schema": {
            "name": "TierClassification",
            "strict": True,
            "schema": {
                "type": "object",
                "additionalProperties": False,
                "required": ["tier"],
                "properties": {"tier": {"type": "string", "enum": ["SIMPLE", "MEDIUM", "COMPLEX", "REASONING"]}},
            },
        },
    },
}
"""As LiteLLM's `llm` asks."""


def label(text: str, *labels: str) -> dict[str, Any]:
    """As semantic-router's `classifier` asks."""
    system = (
        "Label whether the target answers correctly.\n"
        f"Choose exactly one label from: {', '.join(labels)}.\nReturn only JSON with label and rationale."
    )
    return {
        "model": "kt/fake",
        "messages": chat(system, text),
        "max_tokens": 128,
        "response_format": {"type": "json_object"},
    }


def ask(body: dict[str, Any], judge: FakeJudge | None = None, **settings: Any) -> Response:
    """The answer to `body`."""
    answer: Response = served(judge, **settings).post(PATH, json=body)
    return answer


def verdict(body: dict[str, Any], judge: FakeJudge | None = None, **settings: Any) -> dict[str, Any]:
    """The verdict that is replied to `body`."""
    answer = ask(body, judge, **settings)
    assert answer.status_code == 200, answer.text
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    found: dict[str, Any] = json.loads(choice["message"]["content"])
    return found


@pytest.mark.parametrize("body", [FORECAST, LOOSE_FORECAST], ids=["schema", "object"])
def test_a_forecast_is_the_calibrated_probability_and_claims_no_rule(body: dict[str, Any]) -> None:
    judge = FakeJudge()
    assert verdict(body, judge) == {
        "crux": "whether the model knows the answer",
        "primary_rule": "none",
        "capability_boundary": "unmatched",
        "p_solve": pytest.approx(fake_confidence(Asked(text=SURE))),
    }
    assert judge.asked == [[Asked(text=SURE)]]


def test_a_forecast_of_a_follow_up_is_judged_after_the_opening() -> None:
    judge = FakeJudge()
    verdict({**FORECAST, "messages": chat(FORECASTER, "Who is Ada?", "Where was she born?")}, judge)
    assert judge.asked == [[Asked(text="Where was she born?", history=({"role": "user", "content": "Who is Ada?"},))]]


@pytest.mark.parametrize(("text", "tier"), [(SURE, "SIMPLE"), (HALF, "REASONING"), (UNSURE, "REASONING")])
def test_a_tier_is_simple_where_the_question_passes(text: str, tier: str) -> None:
    judge = FakeJudge()
    body = {**TIER, "messages": chat(None, f"{RUBRIC}\n\nRequest:\n{text}")}
    assert verdict(body, judge, policy=policy_of(0.8)) == {"tier": tier}
    assert judge.asked == [[Asked(text=text)]]


def test_what_the_user_writes_into_a_request_for_a_tier_is_all_judged() -> None:
    judge = FakeJudge()
    verdict({**TIER, "messages": chat(None, f"{RUBRIC}\n\nRequest:\nWhy?\nRequest:\nWho?")}, judge)
    verdict({**TIER, "messages": chat(RUBRIC, "Why?")}, judge)
    assert [asked.text for call in judge.asked for asked in call] == ["Why?\nRequest:\nWho?", "Why?"]


@pytest.mark.parametrize(
    ("text", "labels", "wanted"),
    [
        (SURE, ("CAN", "UNCERTAIN", "CANNOT"), "CAN"),
        (UNSURE, ("can", "cannot"), "cannot"),
        (SURE, ("ANSWER", "ESCALATE"), "ANSWER"),
        (HALF, ("answer", "abstain"), "abstain"),
        (SURE, ("LT50", "B50_70", "B70_90", "GE90"), "GE90"),
        (HALF, ("GE90", "B70_90", "B50_70", "LT50"), "B50_70"),
        (UNSURE, ("LT50", "GE50"), "LT50"),
    ],
)
def test_a_label_is_one_of_those_that_were_declared(text: str, labels: tuple[str, ...], wanted: str) -> None:
    found = verdict(label(text, *labels), policy=policy_of(0.8))
    assert found.keys() == {"label", "rationale"}
    assert found["label"] == wanted
    calibration = fake_card().calibration
    assert found["rationale"] == f"p={fake_confidence(Asked(text=text)):.4f} cal={calibration.id if calibration else ''}"


def test_a_verdict_has_usage_and_headers_and_can_be_streamed() -> None:
    answer = ask(FORECAST)
    assert answer.json()["model"] == "kt/fake"
    assert answer.json()["usage"] == {"prompt_tokens": 4, "completion_tokens": 0, "total_tokens": 4}
    assert (answer.headers["x-kt-verdict"], answer.headers["x-kt-decision"]) == ("can", "answer")
    assert float(answer.headers["x-kt-p-correct"]) == verdict(FORECAST)["p_solve"]
    assert ask({**FORECAST, "messages": chat(None, UNSURE)}).headers["x-kt-decision"] == "escalate"
    first = ask({**FORECAST, "stream": True}).text.split("\n\n")[0]
    assert json.loads(json.loads(first.removeprefix("data: "))["choices"][0]["delta"]["content"])["p_solve"] > 0.9


BARE = fake_card(calibration=None)
REFUSED: dict[str, tuple[dict[str, Any], JudgeCard, str]] = {
    "text": ({"model": "kt/fake", "messages": chat(None, SURE)}, fake_card(), "unknown_verdict"),
    "any object": (
        {**FORECAST, "response_format": {"type": "json_object"}, "messages": chat("Be brief.", SURE)},
        fake_card(),
        "unknown_verdict",
    ),
    "keys that the user names": ({**LOOSE_FORECAST, "messages": chat(None, FORECASTER)}, fake_card(), "unknown_verdict"),
    "labels that the user names": (
        {**LOOSE_FORECAST, "messages": chat(None, "Choose exactly one label from: CAN, CANNOT")},
        fake_card(),
        "unknown_verdict",
    ),
    "other schema": (
        {**FORECAST, "response_format": {"type": "json_schema", "json_schema": {"name": "Spam", "schema": SCHEMA}}},
        fake_card(),
        "unknown_verdict",
    ),
    "other tiers": (
        {**TIER, "response_format": json.loads(json.dumps(TIER["response_format"]).replace("MEDIUM", "HUGE"))},
        fake_card(),
        "unknown_verdict",
    ),
    "other labels": (label(SURE, "spam", "ham"), fake_card(), "unknown_labels"),
    "one verdict": (label(SURE, "CAN"), fake_card(), "unknown_labels"),
    "too few verdicts": (label(SURE, "CAN", "CANNOT"), three_verdicts(), "unknown_labels"),
    "bands with a gap": (label(SURE, "LT50", "GE60"), fake_card(), "unknown_labels"),
    "bands that overlap": (label(SURE, "LT50", "B40_60", "GE60"), fake_card(), "unknown_labels"),
    "bands without an end": (label(SURE, "LT50", "B50_70"), fake_card(), "unknown_labels"),
    "bands and more": (label(SURE, "LT50", "GE50", "OTHER"), fake_card(), "unknown_labels"),
    "no probability": (FORECAST, BARE, "not_calibrated"),
    "no bands": (label(SURE, "LT50", "GE50"), BARE, "not_calibrated"),
    "tools": ({**FORECAST, "tools": [{"type": "function"}]}, fake_card(), "unsupported_parameter"),
    "no question": ({**FORECAST, "messages": chat(FORECASTER)}, fake_card(), "invalid_chat"),
    "nothing asked": ({**FORECAST, "messages": chat(FORECASTER, " ")}, fake_card(), "empty_input"),
}


@pytest.mark.parametrize(("body", "card", "code"), REFUSED.values(), ids=REFUSED)
def test_what_is_no_request_for_a_known_verdict_is_refused(body: dict[str, Any], card: JudgeCard, code: str) -> None:
    judge = FakeJudge(card)
    answer = ask(body, judge)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, code)
    assert judge.asked == []


@pytest.mark.parametrize("properties", [3, [], {}, {"tier": 3}, {"tier": {}}, {"tier": {"enum": 3}}, {"tier": {"enum": [{}]}}])
def test_a_schema_of_any_kind_breaks_nothing(properties: object) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "Tier", "schema": {"properties": properties}}}
    assert ask({**TIER, "response_format": form}).json()["error"]["code"] == "unknown_verdict"
    assert ask({**TIER, "response_format": {"type": "json_schema"}}).json()["error"]["code"] == "unknown_verdict"


def test_a_judge_without_calibration_still_tells_its_verdict() -> None:
    found = verdict(label(UNSURE, "CAN", "CANNOT"), FakeJudge(BARE))
    assert found == {"label": "CANNOT", "rationale": "cannot cal=none"}
    assert verdict(TIER, FakeJudge(BARE)) == {"tier": "REASONING"}


def test_the_gate_gives_no_verdicts() -> None:
    assert ask({**FORECAST, "model": AUTO}).status_code == 404
