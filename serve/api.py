"""The app, as a function of its judge: no Ray, no engine, no global state."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from know_thyself import __version__
from know_thyself.errors import ConfigError
from know_thyself.judge import JudgeCard
from serve.answering import Answerer
from serve.auth import Keys
from serve.deciding import Decider
from serve.errors import answer_errors
from serve.gate import Gate
from serve.judging import Judge
from serve.limits import Limiter
from serve.middleware import BodyCap, LoopbackOnly, Observer, Secured
from serve.policy import Policy
from serve.routes import chat, decisions, feedback, health, judgments, models, page
from serve.service import Backing, Service

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request."""
JUDGING = frozenset({chat.PATH, judgments.PATH, *decisions.PATHS})
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


def create_app(
    judge: Judge,
    policy: Policy,
    keys: Keys,
    answerer: Answerer | None = None,
    backing: Backing | None = None,
    *,
    max_body: int = MAX_BODY,
    loopback_only: bool = False,
) -> FastAPI:
    """The service of `judge` under `policy`, for the holders of `keys`, for everyone where there are none.

    `answerer` answers what passes the gate. All stands on `backing`, of its own when none is given. Bodies may have `max_body`
    bytes; `loopback_only` refuses requests that name another host. Raises `ConfigError` as `decider_of` and as `Gate.of`.
    """
    decider, behind, gate = decider_of(judge.card, policy, keys), backing or Backing(), Gate.of(policy, answerer)

    @asynccontextmanager
    async def open_gate(_: FastAPI) -> AsyncIterator[None]:
        yield
        if gate is not None:
            await gate.close()

    # The pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(
        title="know-thyself",
        version=__version__,
        summary="Can the model answer this?",
        docs_url=None,
        redoc_url=None,
        lifespan=open_gate,
    )
    app.state.service = Service(
        judge=judge,
        decider=decider,
        meter=behind.meter,
        signer=behind.signer,
        journal=behind.journal,
        limiter=Limiter(usual=policy.limits, store=behind.store),
        created=int(time.time()),
    )
    app.state.keys = keys
    app.state.gate = gate
    for routes in (chat, judgments, decisions, feedback, models, page):
        app.include_router(routes.router)
    for router in (health.health, health.metrics):
        app.include_router(router)
    app.mount("/page", page.files)
    answer_errors(app)
    app.add_middleware(BodyCap, limit=max_body)
    if loopback_only:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Secured)
    app.add_middleware(Observer, meter=behind.meter)
    return app
