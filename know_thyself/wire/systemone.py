"""`POST /v1/systemone`: a state and named questions about it, as gateways ask decision models."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from know_thyself.wire.base import Closed, Probability, within
from know_thyself.wire.inputs import Item
from know_thyself.wire.judgments import LONGEST_NAME

MAX_QUESTIONS, MAX_LABELS = 128, 255
TRUTHS = frozenset({"true", "false"})

Criteria = Annotated[
    dict[str, str],
    Field(min_length=1, max_length=MAX_LABELS, fail_fast=True),
    BeforeValidator(partial(within, most=MAX_LABELS)),
]
"""What each label stands for."""


class SystemOneQuestion(Closed):
    """A yes/no question (`noul`), or a `choice` between the keys of `criteria`. Which are answered, the policy says."""

    type: Literal["noul", "choice"]
    instructions: str | None = None
    criteria: Criteria | None = None

    @model_validator(mode="after")
    def _criteria_suit_the_type(self) -> Self:
        if self.type == "choice" and self.criteria is None:
            raise ValueError("a choice needs criteria: give its labels as their keys")
        if self.type == "noul" and not TRUTHS.issuperset(self.criteria or ()):
            raise ValueError("the criteria of a noul are told for true and false: leave the others out")
        return self

    @property
    def phrase(self) -> str:
        """What is asked, in words."""
        return self.instructions or ""

    @property
    def labels(self) -> list[str] | None:
        """What is chosen between; None of a yes/no question."""
        return list(self.criteria or ()) if self.type == "choice" else None


Questions = Annotated[
    dict[Annotated[str, Field(max_length=LONGEST_NAME)], SystemOneQuestion],
    Field(min_length=1, max_length=MAX_QUESTIONS, fail_fast=True),
    BeforeValidator(partial(within, most=MAX_QUESTIONS)),
]
"""What is asked, under the names of the answers."""


class SystemOneRequest(Closed):
    """Questions about one `state`: a text, or a chat."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "kt/world",
                    "state": "Where was Sisun Nosix born?",
                    "questions": {"can_answer": {"type": "noul", "instructions": "Can the model answer this?"}},
                }
            ]
        }
    )

    model: str = Field(max_length=LONGEST_NAME)
    state: Item
    questions: Questions


class NoulAnswer(Closed):
    """How likely the answer is yes."""

    type: Literal["noul"] = "noul"
    noul: Probability


class SystemOneChoice(Closed):
    """The label chosen, and how likely each is. `confidence` is (n p - 1) / (n - 1), of n labels and the largest p."""

    type: Literal["choice"] = "choice"
    choice: str
    probabilities: dict[str, Probability]
    confidence: Probability


class SystemOneUsage(Closed):
    """Tokens read; nothing is generated."""

    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(0, ge=0)


class SystemOneResponse(Closed):
    """An answer to each question, under its name. `model` names the judge with its digest."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "model": "kt/world@9f3a5c1e7b20",
                    "answers": {"can_answer": {"type": "noul", "noul": 0.84}},
                    "usage": {"input_tokens": 31, "output_tokens": 0},
                }
            ]
        }
    )

    model: str
    answers: dict[str, NoulAnswer | SystemOneChoice]
    usage: SystemOneUsage
