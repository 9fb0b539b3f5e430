"""What is told of a judgment where the body has no room for it: the `x-kt-*` headers."""

from __future__ import annotations

from know_thyself.asking import Opinion
from know_thyself.wire import Decision
from serve.deciding import Line
from serve.service import Service

SCHEMA_VERSION = "1"


def judgment_headers(service: Service, opinion: Opinion, line: Line, decision: Decision) -> dict[str, str]:
    """The headers that tell one judgment; what there is not is left out, such as a threshold that is not on p_correct."""
    calibration = service.calibration
    told = {
        "x-kt-schema-version": SCHEMA_VERSION,
        "x-kt-p-correct": opinion.p_correct,
        "x-kt-verdict": opinion.verdict.value,
        "x-kt-decision": decision,
        "x-kt-threshold": line.shown,
        "x-kt-calibration-id": None if calibration is None else calibration.id,
    }
    return {name: str(value) for name, value in told.items() if value is not None}
