"""What the judgment service is sent and what it returns: one truth for server, clients and the OpenAPI document.

All models are closed: an unknown key is an error, in a chat request one that the service names itself. What is wrong with
one input of a list (it is empty, too long, a chat that does not end with a user's turn) is told in its place among the answers;
what is wrong with the request as a whole refuses it.
"""

from __future__ import annotations

from know_thyself.wire.admin import AppointedJudge, Appointment
from know_thyself.wire.base import Bar, Closed, Error, ErrorResponse, ErrorType, Health, Share
from know_thyself.wire.chat import (
    AUTO,
    AssistantMessage,
    ChatChunk,
    ChatCompletion,
    ChatRequest,
    ChatUsage,
    Choice,
    ChunkChoice,
    Delta,
)
from know_thyself.wire.decisions import (
    ChoiceAnswer,
    ChoiceQuestion,
    DecisionQuestion,
    DecisionRequest,
    DecisionResponse,
    DecisionUsage,
    EitherRequest,
    PredicateAnswer,
    PredicateQuestion,
    RefusalAnswer,
    ScoreQuestion,
    ValueProbability,
)
from know_thyself.wire.feedback import FeedbackRequest, FeedbackResponse
from know_thyself.wire.inputs import MAX_CHARACTERS, MAX_INPUTS, ChatMessage, Input, Item, TextPart
from know_thyself.wire.judgments import (
    CalibrationInfo,
    Decision,
    ErrorItem,
    JudgmentItem,
    JudgmentRequest,
    JudgmentResponse,
    ThresholdSource,
    Usage,
)
from know_thyself.wire.models import ModelInfo, ModelList
from know_thyself.wire.reliability import OperatingPoint, Reliability, ReliabilityBin
from know_thyself.wire.systemone import (
    NoulAnswer,
    SystemOneChoice,
    SystemOneRequest,
    SystemOneResponse,
    SystemOneUsage,
)

__all__ = [
    "AUTO",
    "MAX_CHARACTERS",
    "MAX_INPUTS",
    "AppointedJudge",
    "Appointment",
    "AssistantMessage",
    "Bar",
    "CalibrationInfo",
    "ChatChunk",
    "ChatCompletion",
    "ChatMessage",
    "ChatRequest",
    "ChatUsage",
    "Choice",
    "ChoiceAnswer",
    "ChoiceQuestion",
    "ChunkChoice",
    "Closed",
    "Decision",
    "DecisionQuestion",
    "DecisionRequest",
    "DecisionResponse",
    "DecisionUsage",
    "Delta",
    "EitherRequest",
    "Error",
    "ErrorItem",
    "ErrorResponse",
    "ErrorType",
    "FeedbackRequest",
    "FeedbackResponse",
    "Health",
    "Input",
    "Item",
    "JudgmentItem",
    "JudgmentRequest",
    "JudgmentResponse",
    "ModelInfo",
    "ModelList",
    "NoulAnswer",
    "OperatingPoint",
    "PredicateAnswer",
    "PredicateQuestion",
    "RefusalAnswer",
    "Reliability",
    "ReliabilityBin",
    "ScoreQuestion",
    "Share",
    "SystemOneChoice",
    "SystemOneRequest",
    "SystemOneResponse",
    "SystemOneUsage",
    "TextPart",
    "ThresholdSource",
    "Usage",
    "ValueProbability",
]
