"""`POST /v1/feedback`: whether the answer was right."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from know_thyself.wire.base import Closed
from know_thyself.wire.inputs import MAX_INPUTS

LONGEST_ID = 256
EXAMPLE_ID = "jdg-_zVRTLrMIbTslMgWUu_yLQFrCR0AnzpcHnsgAQIDBAUGB9I"


class FeedbackRequest(Closed):
    """Whether the model's answer to a question that was judged turned out right; told again, the last word holds."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": EXAMPLE_ID, "correct": True}, {"id": EXAMPLE_ID, "index": 3, "correct": False}]}
    )

    id: str = Field(max_length=LONGEST_ID, description="the id of the judgment")
    index: int = Field(0, ge=0, lt=MAX_INPUTS, description="which of a list of inputs, as the judgment numbers them")
    correct: bool = Field(strict=True, description="whether the answer was right")


class FeedbackResponse(Closed):
    """The feedback as it was kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"id": EXAMPLE_ID, "object": "feedback", "index": 0, "correct": True}]}
    )

    id: str
    object: Literal["feedback"] = "feedback"
    index: int = Field(ge=0)
    correct: bool
