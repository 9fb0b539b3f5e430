"""What a run will cost before it does, and what it has used: tokens, hours of devices, money.

Throughput and prices are given or measured, never assumed: what is unknown makes None, with the reason beside it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from know_thyself.config import CostConfig, RunConfig
from know_thyself.errors import ConfigError
from know_thyself.experiment import Experiment, experiments_root, find_experiment, write_whole
from know_thyself.experiment.usage import Act, Use, total, used_by

SCHEMA = 1
HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a whole run has to do, at most: tokens to generate, to read in judging and to learn from, and starts of devices."""

    sampled: float
    judged: float
    trained: float
    starts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How fast one device works, in tokens per second, and the seconds until it does; None is unknown.

    `answer_tokens` and `characters_per_token` are what lies between questions and tokens.
    """

    sampled: float | None = None
    judged: float | None = None
    trained: float | None = None
    start: float | None = None
    answer_tokens: float | None = None
    characters_per_token: float | None = None

    @classmethod
    def of(cls, uses: Mapping[Act, Use]) -> Throughput:
        """What `uses` measured."""
        sampled, judged, trained, started = (uses.get(act, Use()) for act in ("sample", "judge", "train", "start"))
        asked = total([sampled, judged])
        return cls(
            sampled=_ratio(sampled.written, sampled.seconds),
            judged=_ratio(judged.read, judged.seconds),
            trained=_ratio(trained.read, trained.seconds),
            start=_ratio(started.seconds, started.times if "start" in uses else 0),
            answer_tokens=_ratio(sampled.written, sampled.answers),
            characters_per_token=_ratio(asked.characters, asked.read),
        )

    def hours(self, work: Work) -> dict[str, float | None]:
        """Hours of devices for each part of `work`; of what is unknown None, unless there is none of it to do."""
        seconds = {
            "sample": _seconds(work.sampled, self.sampled),
            "judge": _seconds(work.judged, self.judged),
            "train": _seconds(work.trained, self.trained),
            "start": None if self.start is None else work.starts * self.start,
        }
        return {name: None if much is None else much / HOUR for name, much in seconds.items()}


def _seconds(tokens: float, pace: float | None) -> float | None:
    """Seconds for so many `tokens` at so many a second: none for none, even at an unknown pace."""
    if not tokens:
        return 0.0
    return None if pace is None else tokens / pace


def _ratio(much: float, by: float) -> float | None:
    return much / by if much and by else None


def throughput_of(config: RunConfig) -> tuple[Throughput, dict[str, str] | None]:
    """What to reckon with: given in the settings, else measured by the experiment that they name; and by which, on which model.

    Raises `StoreError` when there is no such experiment, `ConfigError` when it has measured nothing.
    """
    given, name = config.cost, config.cost.measured_by
    measured, by = Throughput(), None
    if name is not None:
        experiment = find_experiment(experiments_root(config), name)
        uses = used_by(experiment.path)
        if not uses:
            raise ConfigError(f"cost.measured-by={name} has measured nothing: name an experiment that has asked its questions")
        measured = Throughput.of(uses)
        by = {"experiment": experiment.name, "model": json.loads((experiment.path / "config.json").read_bytes())["model"]}
    own = given.model_dump(include={field.name for field in fields(Throughput)}, exclude_none=True)
    return replace(measured, **own), by


def cost_of(work: Work, throughput: Throughput, prices: CostConfig) -> dict[str, Any]:
    """Hours of devices and money for `work`, and why either is None."""
    hours = throughput.hours(work)
    unknown = [name for name, much in hours.items() if much is None]
    known = None if unknown else sum(much for much in hours.values() if much is not None)
    reason = f"no throughput known of: {', '.join(unknown)}; give --cost.measured-by, or --cost.sampled, judged, trained, start"
    return {
        "device_hours": {**{name: _rounded(much) for name, much in hours.items()}, "all": _rounded(known)},
        "money": money(known, prices),
        **({"device_hours_undefined": reason} if unknown else {}),
    }


def money(hours: float | None, prices: CostConfig) -> dict[str, float | None]:
    """What so many hours of a device cost at each price that is given."""
    given = {"on_demand": prices.on_demand, "spot": prices.spot}
    return {name: None if price is None or hours is None else _rounded(hours * price) for name, price in given.items()}


def _rounded(much: float | None) -> float | None:
    return None if much is None else float(f"{much:.6g}")


def used(experiment: Experiment, prices: CostConfig) -> dict[str, Any]:
    """What all attempts at the stages of `experiment` used so far: the content of used.json."""
    uses = used_by(experiment.path)
    hours = sum(use.seconds for use in uses.values()) / HOUR
    return {
        "schema": SCHEMA,
        "acts": {
            act: {
                "device_seconds": round(use.seconds, 3),
                "times": use.times,
                "questions": use.questions,
                "tokens_read": use.read,
                "tokens_written": use.written,
            }
            for act, use in uses.items()
        },
        "device_hours": _rounded(hours),
        "prices": {"on_demand": prices.on_demand, "spot": prices.spot},
        "money": money(hours, prices),
    }


def write_used(experiment: Experiment, prices: CostConfig) -> None:
    """Write used.json."""
    write_whole(experiment.used, json.dumps(used(experiment, prices), indent=2) + "\n")
