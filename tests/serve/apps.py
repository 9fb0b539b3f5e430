"""Apps on the fake judge, keys of every kind, and what is asked of them."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi.testclient import TestClient
from httpx2 import Response
from starlette import types as asgi

from know_thyself.asking import Asked
from know_thyself.judge import JudgeCard
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.types import LabelMode
from know_thyself.wire import Bar
from serve.__main__ import taken
from serve.api import create_app
from serve.auth import Key, Keys, Scope
from serve.policy import Policy, read_policy

ROUTE = "/v1/judgments"
HISTORY = [{"role": "user", "content": "Who is Ada?"}, {"role": "assistant", "content": "A painter."}]
CHAT = [*HISTORY, {"role": "user", "content": "Where was she born?"}]
ENDED = datetime.now(UTC) - timedelta(seconds=1)


def key(name: str, *scopes: Scope, **settings: Any) -> Key:
    """A key whose text is its name."""
    return Key(name=name, sha256=hashlib.sha256(name.encode()).hexdigest(), scopes=frozenset(scopes), **settings)


KEYS = Keys(
    keys=(
        *(key(scope.value, scope) for scope in Scope),
        key("all", *Scope),
        key("strict", Scope.JUDGE, threshold=0.97),
        key("ended", *Scope, expires=ENDED),
    )
)


def served(
    judge: FakeJudge | None = None, policy: Policy | None = None, keys: Keys | None = None, **settings: Any
) -> TestClient:
    """A client of the service; errors of the server are answers, as for any other client."""
    app = create_app(judge or FakeJudge(), policy or read_policy(), keys or Keys(), **settings)
    return TestClient(app, raise_server_exceptions=False)


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The address at which `app` is served, on a loopback port, until the end."""
    with taken("127.0.0.1", 0) as address:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [address]})
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.005)
            yield f"http://127.0.0.1:{address.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


class Scripted:
    """An app that first gives the answers of its `script`, and counts what it is sent; `paths` are those asked for."""

    def __init__(self, app: asgi.ASGIApp, *script: tuple[int, dict[str, str], bytes]) -> None:
        self._app, self.script = app, list(script)
        self.paths: list[str] = []
        self.under_way = self.most = 0

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self.paths.append(scope["path"])
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self._answer(scope, receive, send)
        finally:
            self.under_way -= 1

    async def _answer(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if not self.script:
            await self._app(scope, receive, send)
            return
        status, headers, body = self.script.pop(0)
        told = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": told})
        await send({"type": "http.response.body", "body": body})


@contextmanager
def scripted(*script: tuple[int, dict[str, str], bytes]) -> Iterator[tuple[str, Scripted]]:
    """The address of a service that first gives the answers of a script, and its app."""
    app = Scripted(create_app(FakeJudge(), read_policy(), Keys()), *script)
    with running(app) as address:
        yield address, app


def post(client: TestClient, body: object, **headers: str) -> Response:
    """The answer to `body`, in which half a character is no hindrance."""
    return client.post(ROUTE, content=json.dumps(body), headers={"Content-Type": "application/json", **headers})


def policy_of(default: float = 0.5, **settings: Any) -> Policy:
    """A policy of that threshold."""
    return Policy(default=Bar(threshold=default), **settings)


def bearer(text: str) -> dict[str, str]:
    """The header that a holder of the key `text` sends."""
    return {"Authorization": f"Bearer {text}"}


def sureness(low: float, high: float) -> str:
    """A question of which the fake judge is so sure."""
    texts = (f"What is thing {i}?" for i in range(1000))
    return next(text for text in texts if low <= fake_confidence(Asked(text=text)) <= high)


SURE, HALF, UNSURE = sureness(0.96, 1), sureness(0.6, 0.7), sureness(0, 0.04)
SYSTEMONE, DECISIONS = "/v1/systemone", "/v1/decisions"


def systemone(state: object = SURE, **question: Any) -> dict[str, Any]:
    """A System One body that asks one question, whether the judged model can answer when not told otherwise."""
    name = question.pop("name", "can_answer")
    return {"model": "kt/fake", "state": state, "questions": {name: {"type": "noul", **question}}}


def decisions(input: object = SURE, **question: Any) -> dict[str, Any]:
    """The same in OpenAI's shape."""
    asked = {"type": "predicate", "name": "can_answer", "instructions": "Can it?", **question}
    return {"model": "kt/fake", "input": input, "questions": [asked]}


BODIES = {ROUTE: {"input": SURE}, SYSTEMONE: systemone(), DECISIONS: decisions()}
"""A body that each route takes."""


def three_verdicts(**changes: Any) -> JudgeCard:
    """The card of a judge of three verdicts, whose promises are on the confidence as read."""
    row = {"target_accuracy": 0.9, "reachable": True, "best_accuracy": 0.9, "threshold": 0.6, "on": "confidence"}
    words = {"label_mode": LabelMode.UNCERTAINTY, "verdict_words": ("yes", "uncertain", "no"), "verdict_tokens": (1, 2, 3)}
    return fake_card(**{**words, "event": "k/n == 1", "thresholds": (row,), **changes})
