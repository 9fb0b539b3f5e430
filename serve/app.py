"""The judgment service on Ray Serve: `serve run serve.app:build judge=DIR`, or `serve deploy serve/config.yaml`.

A replica is the whole service, app and engine in one process, just as `python -m serve` has it: a request crosses no border
between the two, batches form where the engine is, and a judge takes over between two of them. Ray Serve adds what one process
lacks: more replicas, another one when one dies, and an engine of its own for a canary and for a shadow. Replicas follow the
registry one by one, so that for some seconds some of them may serve the judge before; each answer names its judge.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

from fastapi import FastAPI
from pydantic import ValidationError, model_validator
from ray import serve
from ray.serve.config import BackpressureConfig
from ray.serve.context import _get_global_client

from know_thyself.compute.environment import prepare_environment
from know_thyself.errors import ConfigError, EngineError
from know_thyself.wire import Closed
from serve.api import create_app
from serve.auth import check_host
from serve.beside import Handle, JudgeReplica, remote_judge
from serve.service import Others
from serve.startup import Plan, Sources, read_plan, started
from serve.tracing import Traced, exporting

OPTIONS: dict[str, Any] = {
    "max_ongoing_requests": 256,  # they wait in the replica's own queue, where batches form
    "max_queued_requests": 256,  # beyond, the caller is told to come back
    "backpressure_config": BackpressureConfig(status_code=429, retry_after_s=1),
    "health_check_period_s": 2,  # a replica that died is replaced within 10 s
    "health_check_timeout_s": 10,
}
"""Of every deployment."""


class Arguments(Closed):
    """What `serve run serve.app:build NAME=VALUE` takes: `judge` or `registry`, and as for `python -m serve` keys and policy.

    `backend` is the engine: `vllm`, or `module:function` of a factory with the same face; `otel` traces requests. Paths are
    those of the nodes.
    """

    judge: Path | None = None
    registry: Path | None = None
    keys: Path | None = None
    policy: Path | None = None
    backend: str = "vllm"
    otel: bool = False

    @model_validator(mode="after")
    def _one_source(self) -> Arguments:
        if (self.judge is None) == (self.registry is None):
            raise ValueError("give either judge=DIR or registry=DIR")
        return self

    @property
    def sources(self) -> Sources:
        """All paths, from the root on."""
        named = {name: path.absolute() for name in ("judge", "registry", "keys", "policy") if (path := getattr(self, name))}
        return Sources(**named)


class Service:
    """A replica of the service, on the judge that `arguments` name when it starts, and perhaps handles to others."""

    def __init__(self, arguments: Arguments, canary: Handle | None, shadow: Handle | None) -> None:
        self._opened = ExitStack()
        self._plan = read_plan(arguments.sources)
        check_host(_host(), self._plan.keys)
        self._judge = self._opened.enter_context(started(self._plan.folder, arguments.backend))
        self._canary, self._shadow, self._otel = canary, shadow, arguments.otel

    async def __serve_build_asgi_app__(self) -> FastAPI:
        """The app of this replica; Ray Serve calls it once."""
        plan = self._plan
        others = Others(
            canary=await remote_judge(self._canary),
            share=plan.policy.canary.share if plan.policy.canary else 0.0,
            shadow=await remote_judge(self._shadow),
            successors=plan.successors(self._judge),
        )
        self._app = create_app(self._judge, plan.policy, plan.keys, others=others)
        if self._otel:
            self._app.add_middleware(Traced, provider=exporting())
        return self._app

    async def check_health(self) -> None:
        """Raise `EngineError` while the judge that serves cannot judge, so that Ray Serve starts another replica."""
        if fault := self._app.state.serving.prod.judge.fault:
            raise EngineError(fault)

    def __del__(self) -> None:
        """End the engine's thread and remove what it had on disk; Ray Serve calls it before a replica goes."""
        self._opened.close()


def build(args: dict[str, Any]) -> serve.Application:
    """The application of `args`, which are `Arguments`. Raises `KnowThyselfError` for what is wrong with them."""
    prepare_environment()
    try:
        arguments = Arguments.model_validate(args)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(map(str, fault["loc"])) or "arguments"
        raise ConfigError(f"{place}: {fault['msg'].removeprefix('Value error, ')}") from None
    plan = read_plan(arguments.sources)
    canary, shadow = (_beside(role, plan, arguments.backend) for role in ("canary", "shadow"))
    deployment = serve.deployment(name="judgments", **OPTIONS)(serve.ingress()(Service))
    return deployment.bind(arguments, canary, shadow)


def _beside(role: Literal["canary", "shadow"], plan: Plan, backend: str) -> serve.Application | None:
    """A replica for the judge in this `role`, if the policy names one. Raises `ConfigError` unless the registry has it."""
    policy = plan.policy
    name = policy.shadow if role == "shadow" else (policy.canary.judge if policy.canary else None)
    if name is None:
        return None
    if plan.registry is None:
        raise ConfigError(f"the policy has {name} as {role}, a judge of a registry: give registry=DIR in place of judge=DIR")
    return serve.deployment(name=role, **OPTIONS)(JudgeReplica).bind(plan.registry.judge(name), backend)


def _host() -> str:
    """The host that the proxies of this cluster listen on."""
    client = _get_global_client()
    assert client is not None
    return str(client.http_config.host)
