"""What an operator wants: a closed file of settings, every fault of which is one line with its remedy."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any, Literal, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from know_thyself.errors import ConfigError, first_fault
from know_thyself.wire import MAX_INPUTS, Bar, Closed, Share

DEFAULTS = Path(__file__).with_name("policy.toml")
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""What may name a judge or a key."""
Settings = TypeVar("Settings", bound=BaseModel)


class LabelMap(Closed):
    """What a choice between labels comes to: `can` gets p_correct, `cannot` the rest, the `others` nothing."""

    can: str = Field(min_length=1)
    cannot: str = Field(min_length=1)
    others: tuple[str, ...] = ()

    @property
    def labels(self) -> frozenset[str]:
        """All labels of the choice."""
        return frozenset((self.can, self.cannot, *self.others))

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        if len(self.labels) < 2 + len(self.others):
            raise ValueError("a label is there twice: give each its own")
        return self


CAN_ANSWER = "can_answer"
"""The name of the yes/no question that every judge answers."""
YES_NO = LabelMap(can="true", cannot="false")


class Registered(Closed):
    """Which questions of other formats ask for what the judge was trained on; no others are answered."""

    phrases: frozenset[str] = frozenset()
    label_maps: tuple[LabelMap, ...] = ()

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        if len({mapped.labels for mapped in self.label_maps}) < len(self.label_maps):
            raise ValueError("two label_maps have the same labels: keep one of them")
        return self

    def meaning(self, name: str | None, phrase: str, labels: Collection[str | bool] | None) -> LabelMap | None:
        """What a question comes to, None of one that is not ours; `labels` are those of a choice, None of a yes/no question."""
        if labels is not None:
            return next((mapped for mapped in self.label_maps if mapped.labels == frozenset(labels)), None)
        return YES_NO if name == CAN_ANSWER or phrase.strip() in self.phrases else None


class Limits(Closed):
    """How much a key may ask in any 60 seconds; what is None has no limit. A list of inputs must fit."""

    requests_per_minute: int | None = Field(None, ge=1)
    questions_per_minute: int | None = Field(None, ge=MAX_INPUTS)


class Kept(Closed):
    """What a journal keeps: judgments of so many `days`, and so many `rows` of scores and of feedback, the newest."""

    days: int = Field(90, ge=1, le=3650)
    rows: int = Field(500_000, ge=1)


class UpstreamPolicy(Closed):
    """A service that speaks OpenAI's API: where it is, what its model is called, and which variable holds its key, if any."""

    base_url: str
    model: str = Field(min_length=1)
    key_variable: str | None = Field(None, min_length=1)
    timeout_seconds: float = Field(60.0, gt=0, le=600)

    @field_validator("base_url")
    @classmethod
    def _is_plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("this is no address of a service: give one such as https://example.org/v1")
        if "@" in parts.netloc or parts.query or parts.fragment:
            raise ValueError("an address holds no key and no query: name the variable with the key as key_variable")
        return url


class GatePolicy(Closed):
    """What the gate does with a question that passes, with one below the bar, and where the judge fails it.

    A judge fails when it raises, is busy, or takes longer than `budget_ms`: failing open lets the question pass, failing closed
    treats it as one below. `abstention` is what is said instead of an answer.
    """

    passing: Literal["answer", "escalate"] = "answer"
    below: Literal["escalate", "abstain"] = "abstain"
    failing: Literal["open", "closed"] = "closed"
    budget_ms: int = Field(2000, gt=0)
    abstention: str = Field("I do not know.", min_length=1)
    upstream: UpstreamPolicy | None = None

    @model_validator(mode="after")
    def _upstream_is_used(self) -> Self:
        escalates = "escalate" in (self.passing, self.below)
        if escalates and self.upstream is None:
            raise ValueError('the gate escalates, and has no upstream: add [gate.upstream], or set below = "abstain"')
        if self.upstream is not None and not escalates:
            raise ValueError('the gate has an upstream, and never escalates: set below = "escalate", or remove the upstream')
        return self


class Canary(Closed):
    """A judge of the registry that answers a `share` of the requests."""

    judge: str = Field(pattern=NAME)
    share: Share


class Policy(Closed):
    """The bar of every route, the default for those without one, and what becomes of a question `below` it.

    `below` is advice to those who ask for judgments; `gate` says what the service does itself. `limits` are those of every key
    that has none of its own. `questions` are those of other formats that ask what a judge knows. `canary` and `shadow` are
    judges of the registry beside the one that serves.
    """

    below: Literal["escalate", "abstain"] = "escalate"
    default: Bar
    routes: dict[str, Bar] = Field(default_factory=dict)
    limits: Limits = Limits()
    journal: Kept = Kept()
    gate: GatePolicy | None = None
    questions: Registered = Field(default_factory=Registered)
    canary: Canary | None = None
    shadow: str | None = Field(None, pattern=NAME)

    @model_validator(mode="after")
    def _bars_are_set(self) -> Self:
        for name, bar in {"default": self.default, **self.routes}.items():
            if not bar.is_set:
                raise ValueError(f"{name} has neither threshold nor target_accuracy: give it one")
        return self


def read_policy(file: Path = DEFAULTS) -> Policy:
    """The policy in `file`. Raises `ConfigError`."""
    return read_settings(file, Policy)


def read_settings(file: Path, kind: type[Settings]) -> Settings:
    """The settings of `kind` in `file`, TOML or (by its suffix) JSON. Raises `ConfigError`, without any value of the file."""
    try:
        return kind.model_validate(_parsed(file))
    except (OSError, ValueError, RecursionError) as error:
        if isinstance(error, ValidationError):
            raise ConfigError(": ".join(filter(None, (str(file), *first_fault(error))))) from None
        raise ConfigError(f"{file} cannot be read as TOML or JSON ({type(error).__name__}): mend it, or name another") from None


def _parsed(file: Path) -> Any:
    text = file.read_text(encoding="utf-8-sig")
    return json.loads(text) if file.suffix == ".json" else tomllib.loads(text)
