"""The judge as other systems know one: a model that replies to their request for a verdict with the JSON that they read.

Each form is told by the schema or the instruction that its system sends; only what this judge knows is said in it. `SIMPLE` and
`ANSWER` mean that the question reaches the bar of the route. Any other request is refused: the judge writes no text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from know_thyself.asking import Opinion
from know_thyself.judge import JudgeCard
from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import Verdict
from know_thyself.wire import ChatMessage, ChatRequest
from serve.errors import ServiceError

Reply = Mapping[str, Any]
Speak = Callable[[Opinion, bool], Reply]
"""What is replied, by the judge's opinion and by whether the question passes."""

CAPABILITY = "CapabilityClassifierDecision"
CAPABILITY_KEYS = ("crux", "primary_rule", "capability_boundary", "p_solve")
TIERS = sorted("SIMPLE MEDIUM COMPLEX REASONING".split())
REQUEST = "\nRequest:\n"
"""What stands before the question in a request for a tier."""
LABELS = re.compile(r"choose exactly one label from:?([^\n.;]+)", re.IGNORECASE)
BAND = re.compile(r"LT(?P<below>\d{1,3})|B(?P<low>\d{1,3})_(?P<high>\d{1,3})|GE(?P<above>\d{1,3})", re.ASCII)
"""A band of percent: below, from to, or from on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The chat to judge, and how to speak of it."""

    chat: list[ChatMessage]
    speak: Speak


def read_form(request: ChatRequest, card: JudgeCard) -> Form:
    """The form in which `request` asks the judge of `card`. Raises `ServiceError` 400 where it is none that is known."""
    turns: list[ChatMessage] = [turn for turn in request.messages if turn.role == "user"]
    told = "\n".join(turn.text for turn in request.messages if turn.role in ("system", "developer"))
    if _asks_capability(request, told):
        _check_calibrated(card)
        return Form(chat=turns, speak=_capability)
    if _asks_tier(request):
        return Form(chat=[_without_rubric(turn) for turn in turns[-1:]], speak=_tier)
    if labels := _labels(request, told):
        return Form(chat=turns[-1:], speak=_label_of(labels, card))
    raise ServiceError(
        400,
        "unknown_verdict",
        "this judge writes no text, and this is no request for a verdict that it knows: ask POST /v1/judgments",
        "response_format",
    )


def _check_calibrated(card: JudgeCard) -> None:
    """Raise `ServiceError` 400 of a judge that knows no probability to tell."""
    if card.calibration is None:
        raise ServiceError(400, "not_calibrated", "this judge is not calibrated, and knows no probability: calibrate it first")


def _asks_capability(request: ChatRequest, told: str) -> bool:
    """Whether the forecast is wanted that NeMo Switchyard and LiteLLM ask for: by the name of its schema, or by its keys."""
    form = request.response_format
    if form is None:
        return False
    if form.json_schema is not None:
        return form.json_schema.name == CAPABILITY
    return form.type == "json_object" and all(key in told for key in CAPABILITY_KEYS)


def _capability(opinion: Opinion, _: bool) -> Reply:
    """No rule of theirs is known to hold: what they call unmatched."""
    crux = "whether the model knows the answer"
    return {"crux": crux, "primary_rule": "none", "capability_boundary": "unmatched", "p_solve": _probability(opinion)}


def _asks_tier(request: ChatRequest) -> bool:
    """Whether one of LiteLLM's tiers is wanted, by a schema that has nothing else."""
    schema = request.response_format and request.response_format.json_schema
    match schema.definition.get("properties") if schema else None:
        case {"tier": {"enum": [*tiers]}, **others} if not others:
            return sorted(map(str, tiers)) == TIERS
    return False


def _without_rubric(turn: ChatMessage) -> ChatMessage:
    """What the user asked, without the rubric that LiteLLM puts before it."""
    before, marker, asked = turn.text.partition(REQUEST)
    return ChatMessage(role="user", content=asked if marker else before)


def _tier(_: Opinion, passes: bool) -> Reply:
    return {"tier": "SIMPLE" if passes else "REASONING"}


def _labels(request: ChatRequest, told: str) -> dict[str, str]:
    """The labels of which semantic-router wants one, by what they are in capitals; empty where it wants none."""
    found = LABELS.findall(told)
    if not found or request.response_format is None or request.response_format.type != "json_object":
        return {}
    labels = [label.strip(" \t\"'`[]()") for label in found[-1].split(",")]
    return {label.upper(): label for label in labels}


def _label_of(labels: Mapping[str, str], card: JudgeCard) -> Speak:
    """How to choose among `labels`. Raises `ServiceError` 400 for labels that have no meaning here."""
    choose = _chooser(frozenset(labels), card)
    calibration = card.calibration.id if card.calibration else "none"

    def speak(opinion: Opinion, passes: bool) -> Reply:
        known = opinion.verdict.value if opinion.p_correct is None else f"p={opinion.p_correct:.4f}"
        return {"label": labels[choose(opinion, passes)], "rationale": f"{known} cal={calibration}"}

    return speak


def _chooser(labels: frozenset[str], card: JudgeCard) -> Callable[[Opinion, bool], str]:
    verdicts = {verdict.value.upper() for verdict in Verdict}
    if {verdict.value.upper() for verdict in VERDICT_WORDS[card.label_mode]} <= labels <= verdicts:
        return lambda opinion, _: opinion.verdict.value.upper()
    if labels in ({"ANSWER", "ESCALATE"}, {"ANSWER", "ABSTAIN"}):
        (other,) = labels - {"ANSWER"}
        return lambda _, passes: "ANSWER" if passes else other
    bands = _bands(labels)
    if not bands:
        told = "this judge cannot tell these labels apart: use can, uncertain, cannot; answer, escalate; or LT50, B50_70, GE70"
        raise ServiceError(400, "unknown_labels", told, "messages")
    _check_calibrated(card)
    return lambda opinion, _: max((low, label) for low, label in bands if low <= 100 * _probability(opinion))[1]


def _probability(opinion: Opinion) -> float:
    assert opinion.p_correct is not None
    return opinion.p_correct


def _bands(labels: frozenset[str]) -> list[tuple[int, str]]:
    """The bands of percent that `labels` are, each with where it begins; empty unless they share out all percents."""
    matches = [BAND.fullmatch(label) for label in labels]
    spans = sorted(
        (int(match["low"] or match["above"] or 0), int(match["high"] or match["below"] or 100), match[0])
        for match in matches
        if match
    )
    ends = [high for _, high, _ in spans]
    adjoin = [low for low, _, _ in spans] == [0, *ends[:-1]] and all(low < high for low, high, _ in spans)
    return [(low, label) for low, _, label in spans] if all(matches) and adjoin and ends[-1] == 100 else []
