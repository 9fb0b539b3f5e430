"""`POST /v1/decisions`: an input and a list of questions about it, as OpenAI's clients ask decision models."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import ConfigDict, Discriminator, Field, StrictBool, StrictStr, Tag, model_validator

from know_thyself.wire.base import Closed, Probability
from know_thyself.wire.inputs import MAX_TURNS, ChatMessage, Item, item_kind
from know_thyself.wire.judgments import LONGEST_NAME
from know_thyself.wire.systemone import MAX_LABELS, SystemOneRequest

MAX_DECISIONS = 400
Value = StrictStr | StrictBool


class CacheBreakpoint(Closed):
    """Where a prompt could be cached; nothing is."""

    mode: Literal["explicit"]


class CacheOptions(Closed):
    """How prompts could be cached; none are."""

    mode: Literal["implicit", "explicit"] | None = None
    ttl: Literal["30m"] = "30m"


class DecisionText(Closed):
    """A piece of text."""

    type: Literal["input_text", "output_text"]
    text: str
    prompt_cache_breakpoint: CacheBreakpoint | None = None


Texts = Annotated[
    Annotated[str, Tag("text")] | Annotated[list[DecisionText], Field(max_length=MAX_TURNS, fail_fast=True), Tag("chat")],
    Discriminator(item_kind, "input_type", "give a text, or a list of pieces of text"),
]


def text_of(texts: Texts) -> str:
    """The whole of a text in pieces."""
    return texts if isinstance(texts, str) else "\n".join(part.text for part in texts)


class DecisionMessage(Closed):
    """One turn of the input. Only text can be judged: no images, no tools."""

    type: Literal["message"] = "message"
    role: Literal["system", "developer", "user", "assistant"]
    content: Texts
    phase: Literal["commentary", "final_answer"] | None = None


DecisionInput = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[list[DecisionMessage], Field(min_length=1, max_length=MAX_TURNS, fail_fast=True), Tag("chat")],
    Discriminator(item_kind, "input_type", "give a text, or a list of turns"),
]


class _Question(Closed):
    instructions: Texts
    name: str | None = Field(None, max_length=LONGEST_NAME)

    @property
    def phrase(self) -> str:
        """What is asked, in words."""
        return text_of(self.instructions)


class PredicateQuestion(_Question):
    """A yes/no question."""

    type: Literal["predicate"]


class DecisionLabel(Closed):
    """One of the values that are chosen between."""

    value: Value
    description: str | None = None


class ChoiceQuestion(_Question):
    """A choice between values, each of its own."""

    type: Literal["choice"]
    choices: list[DecisionLabel] = Field(min_length=2, max_length=MAX_LABELS, fail_fast=True)

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        if len({(type(choice.value), choice.value) for choice in self.choices}) < len(self.choices):
            raise ValueError("a value is there twice: give each once")
        return self

    @property
    def labels(self) -> list[Value]:
        """What is chosen between; `true` and `false` are values of their own, not these words."""
        return [choice.value for choice in self.choices]


class ScoreLevel(Closed):
    """One of the levels that are rated by."""

    label: str
    description: str | None = None


class ScoreQuestion(_Question):
    """A rating by levels; it is always refused, as a judge rates nothing."""

    type: Literal["score"]
    levels: list[ScoreLevel] = Field(min_length=2, max_length=MAX_LABELS, fail_fast=True)


DecisionQuestion = Annotated[PredicateQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class DecisionRequest(Closed):
    """Questions about one `input`: a text, or the turns of a chat that ends with the user's."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "kt/world",
                    "input": "Where was Sisun Nosix born?",
                    "questions": [
                        {"type": "predicate", "name": "can_answer", "instructions": "Can the model answer this?"},
                        {"type": "predicate", "name": "spam", "instructions": "Is this spam?"},
                    ],
                }
            ]
        }
    )

    model: str = Field(max_length=LONGEST_NAME)
    input: DecisionInput
    questions: list[DecisionQuestion] = Field(min_length=1, max_length=MAX_DECISIONS, fail_fast=True)
    prompt_cache_key: str | None = None
    prompt_cache_options: CacheOptions | None = None
    safety_identifier: str | None = None

    @property
    def item(self) -> Item:
        """The input as every judge takes it."""
        if isinstance(self.input, str):
            return self.input
        return [ChatMessage(role=turn.role, content=text_of(turn.content)) for turn in self.input]


class PredicateAnswer(Closed):
    """How likely the answer is yes."""

    type: Literal["predicate"] = "predicate"
    name: str | None
    probability: Probability


class ValueProbability(Closed):
    """How likely a value is."""

    value: Value
    probability: Probability


class ChoiceAnswer(Closed):
    """The value chosen, and how likely each is. `confidence` is (n p - 1) / (n - 1), of n values and the largest p."""

    type: Literal["choice"] = "choice"
    name: str | None
    choice: Value
    probabilities: list[ValueProbability]
    confidence: Probability


class RefusalAnswer(Closed):
    """That a question is not answered, as no judge was trained for it."""

    type: Literal["refusal"] = "refusal"
    name: str | None


class InputDetails(Closed):
    """Tokens read from and written to a cache: none."""

    cached_tokens: int = 0
    cache_write_tokens: int = 0


class OutputDetails(Closed):
    """Tokens of thought: none."""

    reasoning_tokens: int = 0


class DecisionUsage(Closed):
    """Tokens read; nothing is generated."""

    input_tokens: int = Field(ge=0)
    input_tokens_details: InputDetails = InputDetails()
    output_tokens: int = Field(0, ge=0)
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int = Field(ge=0)


class DecisionResponse(Closed):
    """An answer to each question, in their order. `model` names the judge with its digest."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "kt/world@9f3a5c1e7b20",
                    "answers": [
                        {"type": "predicate", "name": "can_answer", "probability": 0.84},
                        {"type": "refusal", "name": "spam"},
                    ],
                    "usage": {
                        "input_tokens": 31,
                        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
                        "output_tokens": 0,
                        "output_tokens_details": {"reasoning_tokens": 0},
                        "total_tokens": 31,
                    },
                }
            ]
        }
    )

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | RefusalAnswer]
    usage: DecisionUsage


def _shape(body: Any) -> str | None:
    """Which of the two a body is: what is asked about is its `state` or its `input`."""
    found = [name for name in ("state", "input") if (name in body if isinstance(body, dict) else hasattr(body, name))]
    return {"state": "systemone", "input": "decisions"}[found[0]] if len(found) == 1 else None


EitherRequest = Annotated[
    Annotated[SystemOneRequest, Tag("systemone")] | Annotated[DecisionRequest, Tag("decisions")],
    Discriminator(_shape, "body_shape", "give a state with named questions, or an input with a list of questions"),
]
"""Either of the two shapes, told apart by the body: other services mix them on either path."""
