"""The app, as a function of its judge: no Ray, no engine, no global state."""

from __future__ import annotations

import time

from fastapi import FastAPI

from know_thyself import __version__
from know_thyself.errors import ConfigError
from know_thyself.judge import JudgeCard
from serve.auth import Keys
from serve.deciding import Decider
from serve.errors import answer_errors
from serve.judging import Judge
from serve.metrics import Meter
from serve.middleware import BodyCap, LoopbackOnly, Observer, Secured
from serve.policy import Policy
from serve.routes import health, judgments, models, page
from serve.service import Service

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request."""
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


def create_app(judge: Judge, policy: Policy, keys: Keys, max_body: int = MAX_BODY, *, loopback_only: bool = False) -> FastAPI:
    """The service of `judge` under `policy`, for the holders of `keys`, for everyone where there are none.

    Bodies may have `max_body` bytes; `loopback_only` refuses requests that name another host. Raises
    `ConfigError` as `decider_of`.
    """
    decider, meter = decider_of(judge.card, policy, keys), Meter()
    # The pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(
        title="know-thyself", version=__version__, summary="Can the model answer this?", docs_url=None, redoc_url=None
    )
    app.state.service = Service(judge=judge, decider=decider, meter=meter, created=int(time.time()))
    app.state.keys = keys
    for router in (judgments.router, models.router, health.health, health.metrics, page.router):
        app.include_router(router)
    app.mount("/page", page.files)
    answer_errors(app)
    app.add_middleware(BodyCap, limit=max_body)
    if loopback_only:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Secured)
    app.add_middleware(Observer, meter=meter)
    return app
