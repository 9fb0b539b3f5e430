"""What the judgment service is sent and what it returns: one truth for server, clients and the OpenAPI document.

All models are closed: an unknown key is an error. What is wrong with one input of a list (it is empty, too long, a chat that
does not end with a user's turn) is told in its place among the answers; what is wrong with the request as a whole refuses it.
"""

from __future__ import annotations

from know_thyself.wire.admin import AppointedJudge, Appointment
from know_thyself.wire.base import Bar, Closed, Error, ErrorResponse, ErrorType, Health, Share
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

__all__ = [
    "MAX_CHARACTERS",
    "MAX_INPUTS",
    "AppointedJudge",
    "Appointment",
    "Bar",
    "CalibrationInfo",
    "ChatMessage",
    "Closed",
    "Decision",
    "Error",
    "ErrorItem",
    "ErrorResponse",
    "ErrorType",
    "Health",
    "Input",
    "Item",
    "JudgmentItem",
    "JudgmentRequest",
    "JudgmentResponse",
    "ModelInfo",
    "ModelList",
    "Share",
    "TextPart",
    "ThresholdSource",
    "Usage",
]
