"""The app, as a function of its judge: no Ray, no engine, no global state."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress

from fastapi import FastAPI

from know_thyself import __version__
from know_thyself.errors import ConfigError
from know_thyself.judge import JudgeCard
from serve.auth import Keys
from serve.deciding import Decider
from serve.errors import answer_errors
from serve.judging import Judge
from serve.metrics import Meter
from serve.middleware import BodyCap, Observer
from serve.policy import Policy
from serve.routes import admin, health, judgments, models
from serve.service import Others, Service, Serving
from serve.swapping import Succession

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request."""
ALONE = Others()
"""No judges besides."""
JUDGING = frozenset({judgments.PATH})
"""The routes that decide, for which a policy can set a bar."""


def decider_of(card: JudgeCard, policy: Policy, keys: Keys) -> Decider:
    """What decides about the questions that the judge of `card` is asked.

    Raises `ConfigError` where the policy or a key asks for what this judge cannot promise, and for a bar of a route that
    decides nothing.
    """
    if unknown := sorted(policy.routes.keys() - JUDGING):
        raise ConfigError(f"the policy has a bar for {unknown[0]!r}, which decides nothing: use {', '.join(sorted(JUDGING))}")
    decider = Decider(policy=policy, card=card)
    decider.check(keys.keys)
    return decider


def check_alone(policy: Policy) -> None:
    """Raise `ConfigError` for a `policy` that wants more judges at a time than one engine on a CPU can hold."""
    if policy.canary or policy.shadow:
        wanted = "a canary" if policy.canary else "a shadow"
        raise ConfigError(
            f"the policy wants {wanted}: not on CPU, where one engine holds one judge at a time; "
            "serve with Ray (serve run serve.app:build registry=DIR policy=FILE), which gives it a replica of its own"
        )


def create_app(judge: Judge, policy: Policy, keys: Keys, max_body: int = MAX_BODY, others: Others = ALONE) -> FastAPI:
    """The service of `judge` under `policy`, for the holders of `keys`, for everyone where there are none.

    Bodies may have `max_body` bytes; `others` are the judges besides. Raises `ConfigError` as `decider_of`.
    """
    meter, created = Meter(), int(time.time())

    def serve(judge: Judge) -> Service:
        return Service(judge=judge, decider=decider_of(judge.card, policy, keys), meter=meter, created=created)

    serving = Serving(serve, judge, others)
    succession = Succession(others.successors, serving) if others.successors else None
    # The pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(
        title="know-thyself",
        version=__version__,
        summary="Can the model answer this?",
        docs_url=None,
        redoc_url=None,
        lifespan=following(succession),
    )
    app.state.serving, app.state.keys, app.state.succession = serving, keys, succession
    for router in (judgments.router, models.router, health.health, health.metrics, *([admin.router] if succession else [])):
        app.include_router(router)
    answer_errors(app)
    app.add_middleware(BodyCap, limit=max_body)
    app.add_middleware(Observer, meter=meter)
    return app


def following(succession: Succession | None) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The life of an app during which `succession` follows its registry."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(succession.follow()) if succession else None
        yield
        if task:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return life
