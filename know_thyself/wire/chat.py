"""`POST /v1/chat/completions`: what is sent, and what comes back, whole or in chunks, in the shape of OpenAI's API."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from know_thyself.wire.base import Closed
from know_thyself.wire.inputs import MAX_TURNS, ChatMessage
from know_thyself.wire.judgments import LONGEST_NAME

AUTO = "kt-auto"
"""The model that judges first, and then answers, escalates or abstains."""
LONGEST_STOP = 64
LARGEST_SEED = 2**32 - 1

FinishReason = Literal["stop", "length"]


class Turn(ChatMessage):
    """One turn as clients send it back from an earlier completion: what stands beside its text has to be empty."""

    name: str | None = Field(None, max_length=LONGEST_NAME)
    refusal: None = None
    annotations: Annotated[list[Any], Field(max_length=0)] | None = None
    audio: None = None
    function_call: None = None
    tool_calls: None = None


class JsonSchema(Closed):
    """A schema that the reply shall follow; only those of registered verdicts are known."""

    model_config = ConfigDict(extra="ignore")

    name: str = Field(max_length=LONGEST_NAME)
    definition: dict[str, Any] = Field(default_factory=dict, alias="schema")


class ResponseFormat(Closed):
    """The form of the reply."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None


class StreamOptions(Closed):
    """What a stream holds besides text; obfuscation is never added."""

    include_usage: bool = False
    include_obfuscation: bool = False


class ChatRequest(Closed):
    """A chat that ends with a question. Of other parameters than these, the service names the first one and refuses."""

    model_config = ConfigDict(
        extra="allow",
        json_schema_extra={
            "examples": [
                {"model": AUTO, "messages": [{"role": "user", "content": "Where was Sisun Nosix born?"}]},
                {
                    "model": AUTO,
                    "messages": [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "Where was Sisun Nosix born?"},
                    ],
                    "max_completion_tokens": 16,
                    "stop": ["\n"],
                    "stream": True,
                    "stream_options": {"include_usage": True},
                },
            ]
        },
    )

    model: str = Field(max_length=LONGEST_NAME, description=f"{AUTO}, the gate, or a judge as GET /v1/models names it")
    messages: list[Turn] = Field(min_length=1, max_length=MAX_TURNS, fail_fast=True)
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(
        None, ge=1, description="a local answer has never more than answers had in the run of the judge"
    )
    max_completion_tokens: int | None = Field(None, ge=1, description="the newer name of max_tokens, and stronger")
    temperature: float | None = Field(None, ge=0, le=2, allow_inf_nan=False, description="of a local answer 0 when not given")
    top_p: float | None = Field(None, gt=0, le=1, allow_inf_nan=False)
    seed: int | None = Field(None, ge=0, le=LARGEST_SEED)
    stop: (
        Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]
        | Annotated[list[Annotated[str, Field(min_length=1, max_length=LONGEST_STOP)]], Field(max_length=4)]
        | None
    ) = None
    n: int | None = Field(None, ge=1, description="answers to the question: 1")
    user: str | None = Field(None, max_length=LONGEST_NAME)
    response_format: ResponseFormat | None = None


class ChatUsage(Closed):
    """Tokens read and written: of an abstention and of a verdict, those that the judge read."""

    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)
    total_tokens: int = Field(ge=0)


class AssistantMessage(Closed):
    """What is replied."""

    role: Literal["assistant"] = "assistant"
    content: str


class Choice(Closed):
    """The one reply, and why it ended."""

    index: Literal[0] = 0
    message: AssistantMessage
    finish_reason: FinishReason


class ChatCompletion(Closed):
    """A whole reply. One that was escalated is the upstream's own, which may hold more."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "chatcmpl-5f0c2d3c8f6e4a53b5c7b0f3a1d2e4f6",
                    "object": "chat.completion",
                    "created": 1795600000,
                    "model": AUTO,
                    "choices": [
                        {"index": 0, "message": {"role": "assistant", "content": "Quorn."}, "finish_reason": "stop"},
                    ],
                    "usage": {"prompt_tokens": 31, "completion_tokens": 3, "total_tokens": 34},
                }
            ]
        }
    )

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(description="seconds since 1970")
    model: str
    choices: list[Choice]
    usage: ChatUsage


class Delta(Closed):
    """What a chunk adds to the message."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChunkChoice(Closed):
    """The one reply, as far as this chunk goes."""

    index: Literal[0] = 0
    delta: Delta
    finish_reason: FinishReason | None = None


class ChatChunk(Closed):
    """A piece of a reply; the last one has the usage and no choice, where usage was asked for."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: ChatUsage | None = None
