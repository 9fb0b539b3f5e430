"""The app, as a function of its judge: no Ray, no engine, no global state."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path

from fastapi import FastAPI

from know_thyself import __version__
from know_thyself.errors import ConfigError
from know_thyself.judge import JudgeCard, check_answerer
from serve.answering import Answerer
from serve.auth import Keys
from serve.deciding import Decider
from serve.errors import answer_errors
from serve.following import Look, following
from serve.gate import Gate
from serve.judging import Judge
from serve.keyring import Keyring, Renewal
from serve.limits import Limiter
from serve.middleware import BodyCap, LoopbackOnly, Observer, Secured
from serve.policy import Policy
from serve.routes import admin, chat, decisions, feedback, health, judgments, models, page
from serve.service import Backing, Service
from serve.serving import Others, Serving
from serve.swapping import Succession

MAX_BODY = 4 * 1024 * 1024
"""Bytes of a request."""
ALONE = Others()
"""No judges besides."""
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
    others: Others = ALONE,
    keys_file: Path | None = None,
    max_body: int = MAX_BODY,
    loopback_only: bool = False,
) -> FastAPI:
    """The service of `judge` under `policy`, for the holders of `keys`, for everyone where there are none.

    The keys follow their `keys_file`. `answerer`, the model that is judged, answers what passes the gate. `others` are the
    judges besides. All stands on `backing`, of its own when none is given. Bodies may have `max_body` bytes; `loopback_only`
    refuses requests that name another host. Raises `ConfigError` as `decider_of` and `Gate.of`, `JudgeError` for a canary of
    another model than answers.
    """
    behind, created, keyring = backing or Backing(), int(time.time()), Keyring(keys)
    limiter = Limiter(usual=policy.limits, store=behind.store)

    def serve(one: Judge) -> Service:
        if answerer is not None:
            check_answerer(one.card, judge.card)
        decider = decider_of(one.card, policy, keyring.keys)
        return Service(judge=one, decider=decider, limiter=limiter, backing=behind, created=created)

    serving, gate = Serving(serve, judge, others), Gate.of(policy, answerer)
    succession = Succession(others.successors, serving) if others.successors else None
    renewal = Renewal(keys_file, keyring, serving.check) if keys_file else None
    # The pages that FastAPI brings load scripts from elsewhere.
    app = FastAPI(
        title="know-thyself",
        version=__version__,
        summary="Can the model answer this?",
        docs_url=None,
        redoc_url=None,
        lifespan=_living(gate, [one.look for one in (succession, renewal) if one]),
    )
    app.state.serving, app.state.succession, app.state.gate = serving, succession, gate
    app.state.backing, app.state.keyring, app.state.limiter = behind, keyring, limiter
    _route(app)
    answer_errors(app)
    app.add_middleware(BodyCap, limit=max_body)
    if loopback_only:
        app.add_middleware(LoopbackOnly)
    app.add_middleware(Secured)
    app.add_middleware(Observer, meter=behind.meter)
    return app


def _living(gate: Gate | None, looks: Sequence[Look]) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """The life of an app: it follows what it `looks` at, and closes the gate at the end."""

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as opened:
            if gate is not None:
                opened.push_async_callback(gate.close)
            for look in looks:
                await opened.enter_async_context(following(look))
            yield

    return life


def _route(app: FastAPI) -> None:
    """Give `app` its routes: that of the registry only where it has one."""
    for routes in (chat, judgments, decisions, feedback, models, page, *([admin] if app.state.succession else [])):
        app.include_router(routes.router)
    for router in (health.health, health.metrics):
        app.include_router(router)
    app.mount("/page", page.files)
