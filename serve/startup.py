"""From what an operator names to an app that is ready: everything that can be wrong is told before an engine starts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pydantic import model_validator

from know_thyself.config import EngineConfig
from know_thyself.errors import ConfigError
from know_thyself.judge import read_judge
from know_thyself.wire import Closed
from serve.api import create_app, decider_of
from serve.auth import Keys, read_keys
from serve.gate import gate_policy
from serve.ids import Signer, new_secret, read_secret
from serve.journal import Journal
from serve.limits import LocalStore, RateStore
from serve.local import BatchingJudge, LocalAnswerer, batching, warmed
from serve.metrics import Meter
from serve.policy import DEFAULTS, Policy, read_policy
from serve.registry import Registry, Successors
from serve.service import Backing
from serve.serving import Others

if TYPE_CHECKING:
    from fastapi import FastAPI

    from know_thyself.client.local import LocalJudge
    from serve.judging import Judge


class Settings(Closed):
    """What is served and how, as the flags of `python -m serve` and the arguments of `serve.app:build` have it.

    That is `judge`, the folder of one, or `registry`, a folder of them, with the files of `keys`, `policy` and `journal`, and
    what holds the `secret` of ids; whether the model that is judged shall `answer`, and whether requests are traced (`otel`).
    `backend` is the engine: `vllm`, or `module:function` of a factory with the same face.
    """

    judge: Path | None = None
    registry: Path | None = None
    keys: Path | None = None
    policy: Path | None = None
    journal: Path | None = None
    secret: str | None = None
    answer: bool = False
    otel: bool = False
    backend: str = "vllm"

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.judge is None) == (self.registry is None):
            raise ValueError("give either judge=DIR or registry=DIR")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `settings` come to: the judge of `folder`, perhaps of a `registry`, to whom and under which policy."""

    settings: Settings
    folder: Path
    registry: Registry | None
    keys: Keys
    policy: Policy


def read_plan(settings: Settings) -> Plan:
    """What `settings` come to. Raises `KnowThyselfError` where the judge is not sound, or cannot keep what is asked of it."""
    keys = read_keys(settings.keys) if settings.keys else Keys()
    policy = read_policy(settings.policy or DEFAULTS)
    registry = Registry(settings.registry) if settings.registry else None
    folder = registry.judge(registry.appointed.name) if registry else settings.judge
    assert folder is not None
    decider_of(read_judge(folder), policy, keys)
    gate_policy(policy, settings.answer)
    return Plan(settings=settings, folder=folder, registry=registry, keys=keys, policy=policy)


def check_alone(policy: Policy) -> None:
    """Raise `ConfigError` for a `policy` that wants more judges at a time than one engine on a CPU can hold."""
    if policy.canary or policy.shadow:
        wanted = "a canary" if policy.canary else "a shadow"
        raise ConfigError(
            f"the policy wants {wanted}: not on CPU, where one engine holds one judge at a time; "
            "serve with Ray (serve run serve.app:build registry=DIR policy=FILE), which gives it a replica of its own"
        )


@contextmanager
def backed(plan: Plan, store: RateStore | None = None) -> Iterator[Backing]:
    """What the service of `plan` stands on, its journal open, limits counted in `store`. Raises `ConfigError`."""
    settings, meter = plan.settings, Meter()
    signer = Signer(read_secret(settings.secret) if settings.secret else new_secret())
    with Journal(settings.journal, plan.policy.journal, meter) if settings.journal else nullcontext() as journal:
        yield Backing(meter=meter, signer=signer, journal=journal, store=store or LocalStore())


@contextmanager
def started(folder: Path, backend: str = "vllm", answers: bool = False) -> Iterator[BatchingJudge[LocalJudge]]:
    """The judge of `folder` on an engine of this process, which has judged once, and answered once where it `answers`.

    Raises `KnowThyselfError`.
    """
    from know_thyself.client.local import LocalJudge

    with ExitStack() as opened:

        def start() -> LocalJudge:
            judge = LocalJudge(folder, EngineConfig(backend=backend), answers=answers)
            return warmed(opened.enter_context(judge), answers)

        yield opened.enter_context(batching(start))


def app_of(
    plan: Plan, judge: BatchingJudge[LocalJudge], backing: Backing, canary: Judge | None = None, shadow: Judge | None = None
) -> FastAPI:
    """The service of `plan` by `judge`, which has `started`, perhaps with judges beside it. Raises as `create_app`."""
    share = plan.policy.canary.share if plan.policy.canary else 0.0
    app = create_app(
        judge,
        plan.policy,
        plan.keys,
        LocalAnswerer(judge) if plan.settings.answer else None,
        backing,
        others=Others(canary=canary, share=share, shadow=shadow, successors=_successors(plan, judge)),
        keys_file=plan.settings.keys,
        loopback_only=not plan.keys.keys,
    )
    if plan.settings.otel:
        from serve.tracing import Traced, exporting

        app.add_middleware(Traced, provider=exporting())
    return app


def _successors(plan: Plan, first: BatchingJudge[LocalJudge]) -> Successors | None:
    """The judges that may follow `first`, each verified, prepared, and asked once, on the same engine."""
    from know_thyself.client.local import LocalJudge

    if plan.registry is None:
        return None
    return Successors(plan.registry, lambda folder: first.successor(lambda beside: LocalJudge(folder, beside=beside)))
