"""`POST /v1/judgments`: what is sent, and what comes back."""

from __future__ import annotations

from typing import Annotated, Literal, cast

from pydantic import ConfigDict, Field

from know_thyself.types import Verdict
from know_thyself.wire.base import Bar, Closed, Error, Probability
from know_thyself.wire.feedback import EXAMPLE_ID
from know_thyself.wire.inputs import MAX_CHARACTERS, MAX_INPUTS, ChatMessage, Input, Item

LONGEST_NAME = 128

Decision = Literal["answer", "escalate", "abstain"]
ThresholdSource = Literal["request", "key", "route", "default", "none"]


class JudgmentRequest(Bar):
    """Can the model answer this? A question, a chat that ends with the user's turn, or a list of such."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"input": "Where was Sisun Nosix born?"},
                {"input": "Where was she born?", "context": "Sisun Nosix was born in Quorn.", "threshold": 0.8},
                {
                    "input": [
                        {"role": "user", "content": "Who is Sisun Nosix?"},
                        {"role": "assistant", "content": "A painter."},
                        {"role": "user", "content": "Where was she born?"},
                    ]
                },
                {"input": ["Where was Sisun Nosix born?", "What is the instrument of Bodre Falikar?"], "target_accuracy": 0.9},
            ]
        }
    )

    input: Input = Field(
        description=f"a list is one chat iff every item is an object with a role; else up to {MAX_INPUTS} inputs, each of at "
        f"most {MAX_CHARACTERS} characters with its context"
    )
    context: str | Annotated[list[str | None], Field(fail_fast=True)] | None = Field(
        None,
        description="a text to answer from: one for all inputs, or one or null for each; its end is cut where it is too long",
    )
    model: str | None = Field(None, max_length=LONGEST_NAME, description="the judge asked, as GET /v1/models names it")

    @property
    def is_batch(self) -> bool:
        """Whether `input` is a list of inputs."""
        return not isinstance(self.input, str) and not isinstance(self.input[0], ChatMessage)

    @property
    def items(self) -> list[Item]:
        """The inputs: of a single one, that alone."""
        return cast("list[Item]", self.input if self.is_batch else [self.input])


class JudgmentItem(Closed):
    """The judgment of one input: `answer` where p_correct reaches the threshold.

    `p_correct` is null of a judge that is not calibrated. `threshold` is null where there is none that p_correct can be held
    against: a judge of three verdicts promises a target accuracy by its confidence as read, which is no probability of being
    right and is not shown; and `threshold_source` "none" says that nothing could be decided by, so that nothing passes.
    """

    index: int = Field(ge=0)
    verdict: Verdict
    p_correct: Probability | None = Field(description="the accuracy to expect of an answer, calibrated")
    decision: Decision
    threshold: Probability | None
    threshold_source: ThresholdSource
    context_cut: bool = Field(description="whether the context was too long for the model and lost its end")


class ErrorItem(Closed):
    """Why one input has no judgment."""

    index: int = Field(ge=0)
    error: Error


class CalibrationInfo(Closed):
    """What p_correct rests on: the map's id, and the questions it was fitted on."""

    id: str
    fitted_on: str
    n: int


class Usage(Closed):
    """Tokens read. A judgment is read at one position: nothing is generated."""

    input_tokens: int = Field(ge=0)
    output_tokens: int = Field(0, ge=0)
    total_tokens: int = Field(ge=0)


class JudgmentResponse(Closed):
    """Judgments in the order of the inputs. `event` is what the judge's verdict is about, `judge_digest` which judge it was."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": EXAMPLE_ID,
                    "object": "judgment",
                    "created": 1795600000,
                    "model": "kt/world",
                    "judge_digest": "9f3a5c1e7b20",
                    "event": "k/n >= 0.5",
                    "calibration": {"id": "c1a0b2d3e4f5", "fitted_on": "calibration", "n": 540},
                    "data": [
                        {
                            "index": 0,
                            "verdict": "can",
                            "p_correct": 0.84,
                            "decision": "answer",
                            "threshold": 0.5,
                            "threshold_source": "default",
                            "context_cut": False,
                        },
                        {
                            "index": 1,
                            "error": {
                                "message": "the input is empty: ask something",
                                "type": "invalid_request_error",
                                "param": "input.1",
                                "code": "empty_input",
                            },
                        },
                    ],
                    "usage": {"input_tokens": 31, "output_tokens": 0, "total_tokens": 31},
                }
            ]
        }
    )

    id: str = Field(description="signed for the key that asked; with an index, what POST /v1/feedback takes")
    object: Literal["judgment"] = "judgment"
    created: int = Field(description="seconds since 1970")
    model: str
    judge_digest: str
    event: str
    calibration: CalibrationInfo | None = Field(description="null of a judge that is not calibrated")
    data: list[JudgmentItem | ErrorItem]
    usage: Usage
