"""The judgment service on Ray Serve: `serve run serve.app:build judge=DIR`, or `serve deploy serve/config.yaml`.

A replica is the whole service, app and engine in one process, just as `python -m serve` has it: a request crosses no border
between the two, batches form where the engine is, and a judge takes over between two of them. Ray Serve adds what one process
lacks: more replicas, another one when one dies, limits that hold for all of them together, and an engine of its own for a
canary and for a shadow. Replicas follow the registry one by one, so that for some seconds some of them may serve the judge
before; each answer names its judge.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import ValidationError
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.context import _get_global_client

from know_thyself.compute.environment import prepare_environment
from know_thyself.errors import ConfigError, EngineError, first_fault
from serve.auth import check_host
from serve.beside import Handle, JudgeReplica, SharedStore, remote_judge
from serve.ids import FROM_ENVIRONMENT
from serve.limits import LocalStore
from serve.startup import Plan, Settings, app_of, backed, read_plan, started

OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 256,  # they wait in the replica's own queue, where batches form
    "max_queued_requests": 256,  # beyond, the caller is told to come back
    "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=1),
    "health_check_period_s": 2,  # a replica that died is replaced within 10 s
    "health_check_timeout_s": 10,
}
"""Of every deployment."""


class Service:
    """A replica of the service, on the judge that `settings` name when it starts, with handles to what is beside."""

    def __init__(self, settings: Settings, limits: Handle | None, canary: Handle | None, shadow: Handle | None) -> None:
        self._opened = ExitStack()
        self._plan = read_plan(settings)
        check_host(_host(), self._plan.keys)
        self._backing = self._opened.enter_context(backed(self._plan, SharedStore(limits) if limits else None))
        self._judge = self._opened.enter_context(started(self._plan.folder, settings.backend, settings.answer))
        self._canary, self._shadow = canary, shadow

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """The app of this replica; Ray Serve calls it once."""
        canary, shadow = await remote_judge(self._canary), await remote_judge(self._shadow)
        self._app = app_of(self._plan, self._judge, self._backing, canary, shadow)
        return self._app

    async def check_health(self) -> None:
        """Raise `EngineError` while the judge that serves cannot judge, so that Ray Serve starts another replica."""
        if fault := self._app.state.serving.prod.judge.fault:
            raise EngineError(fault)

    def __del__(self) -> None:
        """End the engine's thread, write down what waits for it, and leave nothing on disk; Ray Serve calls it at the end."""
        self._opened.close()


def build(args: dict[str, Any]) -> serve.Application:
    """The application of `args`, which are `Settings`. Raises `KnowThyselfError` for what is wrong with them.

    Paths are those of the nodes.
    """
    prepare_environment()
    try:
        settings = _from_root(Settings.model_validate(args))
    except ValidationError as error:
        place, told = first_fault(error)
        raise ConfigError(f"{place or 'arguments'}: {told}") from None
    if settings.journal and not settings.secret:
        raise ConfigError(
            "a journal takes a secret that all replicas share, for ids of judgments: give secret=FILE or env:NAME"
        )
    plan = read_plan(settings)
    canary, shadow = (_beside(role, plan) for role in ("canary", "shadow"))
    deployment = serve.deployment(name="judgments", **OPTIONS)(serve.ingress()(Service))
    return deployment.bind(settings, _limits() if plan.keys.keys else None, canary, shadow)


def _from_root(settings: Settings) -> Settings:
    """`settings` with all paths from the root on: a replica need not work in the folder of whoever deploys it."""
    paths: dict[str, Any] = {name: value.absolute() for name, value in settings if isinstance(value, Path)}
    if settings.secret and not settings.secret.startswith(FROM_ENVIRONMENT):
        paths["secret"] = str(Path(settings.secret).absolute())
    return settings.model_copy(update=paths)


def _limits() -> serve.Application:
    """A replica that counts for all others."""
    return serve.deployment(name="limits", ray_actor_options={"num_cpus": 0}, **OPTIONS)(LocalStore).bind()


def _beside(role: Literal["canary", "shadow"], plan: Plan) -> serve.Application | None:
    """A replica for the judge in this `role`, if the policy names one. Raises `ConfigError` unless the registry has it."""
    policy = plan.policy
    name = policy.shadow if role == "shadow" else (policy.canary.judge if policy.canary else None)
    if name is None:
        return None
    if plan.registry is None:
        raise ConfigError(f"the policy has {name} as {role}, a judge of a registry: give registry=DIR in place of judge=DIR")
    return serve.deployment(name=role, **OPTIONS)(JudgeReplica).bind(plan.registry.judge(name), plan.settings.backend)


def _host() -> str:
    """The host that the proxies of this cluster listen on."""
    client = _get_global_client()
    assert client is not None
    return str(client.http_config.host)
