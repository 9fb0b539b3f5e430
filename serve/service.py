"""What the routes of one app share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from know_thyself.digests import SHORT
from know_thyself.wire import CalibrationInfo
from serve.deciding import Decider
from serve.errors import ServiceError
from serve.judging import Judge
from serve.metrics import Meter


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """The judge that is asked, what decides, what counts, and since when (seconds since 1970) this app has been there."""

    judge: Judge
    decider: Decider
    meter: Meter
    created: int

    @property
    def model(self) -> str:
        """The name of the judge for clients: that of the experiment it comes from, never a path."""
        return f"kt/{self.judge.card.experiment}"

    @property
    def judge_digest(self) -> str:
        """Which judge it is, to the bit."""
        return self.judge.card.digest[:SHORT]

    @property
    def calibration(self) -> CalibrationInfo | None:
        """What p_correct rests on."""
        found = self.judge.card.calibration
        return None if found is None else CalibrationInfo(id=found.id, fitted_on=found.fitted_on, n=found.n)

    def check_model(self, wanted: str | None) -> None:
        """Raise `ServiceError` 404 when another judge is `wanted` than the one that is served."""
        if wanted not in (None, self.model):
            raise ServiceError(404, "model_not_found", f"there is no such model: {self.model} is served", "model")


def _service(request: Request) -> Service:
    service: Service = request.app.state.service
    return service


Served = Annotated[Service, Depends(_service)]
"""The service of the app that a route belongs to."""
