"""What the judgment service is sent and what it returns: one truth for server, clients and the OpenAPI document.

All models are closed: an unknown key is an error. What is wrong with one input of a list (it is empty, too long, a chat that
does not end with a user's turn) is told in its place among the answers; what is wrong with the request as a whole refuses it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self, cast

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from know_thyself.types import Verdict

MAX_INPUTS = 128
"""Inputs in one request."""
MAX_CHARACTERS = 32_768
"""Characters of one input: its text or turns, and its context. Nothing longer is turned into tokens."""
MAX_TURNS = 512
"""Turns of one chat, and pieces of one turn."""
LONGEST_NAME = 128

Decision = Literal["answer", "escalate", "abstain"]
ThresholdSource = Literal["request", "key", "route", "default", "none"]
ErrorType = Literal["invalid_request_error", "authentication_error", "permission_error", "not_found_error", "server_error"]
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
Probability = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Closed(BaseModel):
    """A model without unknown keys, that is not changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(Closed):
    """A piece of a turn's text."""

    type: Literal["text"]
    text: str


class ChatMessage(Closed):
    """One turn of a chat. `developer` is another name of `system`."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | Annotated[list[TextPart], Field(max_length=MAX_TURNS)]

    @property
    def text(self) -> str:
        """The whole text of the turn."""
        return self.content if isinstance(self.content, str) else "\n".join(part.text for part in self.content)


def _has_role(item: Any) -> bool:
    return isinstance(item, ChatMessage) or (isinstance(item, dict) and "role" in item)


def _kind(value: Any) -> str | None:
    """What an input is: a list is one chat iff every item is an object with a `role`, else a batch."""
    is_chat = isinstance(value, list) and value and all(map(_has_role, value))
    return "chat" if is_chat else "batch" if isinstance(value, list) else _item_kind(value)


def _item_kind(value: Any) -> str | None:
    return "text" if isinstance(value, str) else "chat" if isinstance(value, list) else None


Item = str | list[ChatMessage]
"""One input: a question, or a chat that ends with one."""
_Text = Annotated[str, Tag("text")]
_Chat = Annotated[list[ChatMessage], Field(min_length=1, max_length=MAX_TURNS), Tag("chat")]
_ItemChat = Annotated[list[ChatMessage], Field(max_length=MAX_TURNS), Tag("chat")]
_Item = Annotated[_Text | _ItemChat, Discriminator(_item_kind, "input_type", "give a text, or a list of turns")]
_Batch = Annotated[list[_Item], Field(min_length=1, max_length=MAX_INPUTS), Tag("batch")]
Input = Annotated[
    _Text | _Chat | _Batch, Discriminator(_kind, "input_type", "give a text, a list of turns, or a list of these")
]


class Bar(Closed):
    """From where on a question passes: a `threshold` on p_correct, or the `target_accuracy` that a threshold must promise."""

    threshold: Probability | None = Field(None, description="p_correct from which the decision is to answer")
    target_accuracy: Share | None = Field(
        None, description="what is answered shall be right this often, as promised by the judge"
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.threshold is not None and self.target_accuracy is not None:
            raise ValueError("threshold and target_accuracy say the same thing twice: give one of them")
        return self

    @property
    def is_set(self) -> bool:
        """Whether either is given."""
        return self.threshold is not None or self.target_accuracy is not None


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
    context: str | list[str | None] | None = Field(
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


class Error(Closed):
    """What went wrong, with its remedy, in the shape of OpenAI's API."""

    message: str
    type: ErrorType
    param: str | None = None
    code: str


class ErrorResponse(Closed):
    """The body of every answer that is not a success."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "error": {
                        "message": "the input is empty: ask something",
                        "type": "invalid_request_error",
                        "param": "input",
                        "code": "empty_input",
                    }
                }
            ]
        }
    )

    error: Error


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
                    "id": "jdg-5f0c2d3c8f6e4a53b5c7b0f3a1d2e4f6",
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

    id: str
    object: Literal["judgment"] = "judgment"
    created: int = Field(description="seconds since 1970")
    model: str
    judge_digest: str
    event: str
    calibration: CalibrationInfo | None = Field(description="null of a judge that is not calibrated")
    data: list[JudgmentItem | ErrorItem]
    usage: Usage


class ModelInfo(Closed):
    """A judge that is served. `reachable` are the accuracies that it can promise as `target_accuracy`."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["know-thyself"] = "know-thyself"
    judge_digest: str
    event: str
    calibration: CalibrationInfo | None
    reachable: list[float]


class ModelList(Closed):
    """The judges that are served."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "object": "list",
                    "data": [
                        {
                            "id": "kt/world",
                            "object": "model",
                            "created": 1795600000,
                            "owned_by": "know-thyself",
                            "judge_digest": "9f3a5c1e7b20",
                            "event": "k/n >= 0.5",
                            "calibration": {"id": "c1a0b2d3e4f5", "fitted_on": "calibration", "n": 540},
                            "reachable": [0.8, 0.9, 0.95],
                        }
                    ],
                }
            ]
        }
    )

    object: Literal["list"] = "list"
    data: list[ModelInfo]


class Health(Closed):
    """Whether the service lives, or is ready to judge."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"status": "ready"}]})

    status: Literal["alive", "ready"]
