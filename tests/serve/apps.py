"""Apps on the fake judge, keys of every kind, and what is asked of them."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient
from httpx2 import Response

from know_thyself.asking import Asked
from know_thyself.judge import JudgeCard
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.types import LabelMode
from know_thyself.wire import Bar
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


def three_verdicts(**changes: Any) -> JudgeCard:
    """The card of a judge of three verdicts, whose promises are on the confidence as read."""
    row = {"target_accuracy": 0.9, "reachable": True, "best_accuracy": 0.9, "threshold": 0.6, "on": "confidence"}
    words = {"label_mode": LabelMode.UNCERTAINTY, "verdict_words": ("yes", "uncertain", "no"), "verdict_tokens": (1, 2, 3)}
    return fake_card(**{**words, "event": "k/n == 1", "thresholds": (row,), **changes})


@contextmanager
def listening(app: FastAPI) -> Iterator[str]:
    """The address at which `app` answers over HTTP on this machine, from a thread beside the test."""
    with socket.create_server(("127.0.0.1", 0)) as address:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [address]})
        thread.start()  # a call waits in the socket's queue until the server takes it
        try:
            yield f"http://127.0.0.1:{address.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
