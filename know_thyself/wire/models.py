"""`GET /v1/models`: which judges there are."""

from __future__ import annotations

from typing import Literal

from pydantic import ConfigDict

from know_thyself.wire.base import Closed
from know_thyself.wire.judgments import CalibrationInfo
from know_thyself.wire.reliability import Reliability


class ModelInfo(Closed):
    """A judge that is served. `reachable` are the accuracies that it can promise as `target_accuracy`.

    `reliability` is null of a judge that is not calibrated, and of one trained before its run kept it.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["know-thyself"] = "know-thyself"
    judge_digest: str
    event: str
    calibration: CalibrationInfo | None
    reachable: list[float]
    reliability: Reliability | None


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
                            "reliability": {
                                "measured_on": "validation",
                                "n": 600,
                                "bins": [
                                    {"p_correct": 0.1, "accuracy": 0.12, "questions": 300},
                                    {"p_correct": 0.9, "accuracy": 0.88, "questions": 300},
                                ],
                                "curve": [
                                    {"threshold": 0.0, "coverage": 1.0, "accuracy": 0.5},
                                    {"threshold": 0.5, "coverage": 0.5, "accuracy": 0.88},
                                    {"threshold": 1.0, "coverage": 0.0, "accuracy": None},
                                ],
                            },
                        }
                    ],
                }
            ]
        }
    )

    object: Literal["list"] = "list"
    data: list[ModelInfo]
