"""What is told of a judgment where the body has no room for it: the `x-kt-` headers."""

from __future__ import annotations

from collections.abc import Mapping

from know_thyself.asking import Opinion
from know_thyself.wire import Decision
from serve.auth import Key
from serve.deciding import Line
from serve.service import Service

SCHEMA_VERSION = "1"
"""Of the headers."""
Headers = Mapping[str, str]


def recorded(service: Service, key: Key | None, opinion: Opinion, decision: Decision, line: Line) -> dict[str, str]:
    """Record a judgment for the holder of `key`; the headers that tell it.

    What there is not is left out, such as a threshold that is not on p_correct.
    """
    calibration = service.calibration
    told = {
        "x-kt-schema-version": SCHEMA_VERSION,
        "x-kt-judgment-id": service.record(key, [(opinion, decision)]),
        "x-kt-p-correct": opinion.p_correct,
        "x-kt-verdict": opinion.verdict.value,
        "x-kt-decision": decision,
        "x-kt-threshold": line.shown,
        "x-kt-calibration-id": None if calibration is None else calibration.id,
    }
    return {name: str(value) for name, value in told.items() if value is not None}
