"""`POST /v1/admin/judges/prod`: which judge shall serve, and which then does."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict, Field

from know_thyself.wire.base import Closed


class Appointment(Closed):
    """The judge of the registry that shall serve."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"judge": "world-2"}]})

    judge: str = Field(description="its name: 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit")


class AppointedJudge(Closed):
    """The judge that serves from now on."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"object": "judge", "judge": "world-2", "model": "kt/world", "judge_digest": "9f3a5c1e7b20"}]
        }
    )

    object: Literal["judge"] = "judge"
    judge: str
    model: str
    judge_digest: str
