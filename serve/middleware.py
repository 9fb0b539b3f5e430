"""Around every route: a cap on bodies, and a line in the access log that holds no text of the request."""

from __future__ import annotations

import logging
import time

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.metrics import Meter

UNMATCHED = "unmatched"
"""The route of requests to none; their paths are the client's text, and without end."""
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())

log = logging.getLogger("serve.access")


class BodyCap:
    """Answers 413 as soon as a body is known to be longer than `limit` bytes, said in its header or not."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        seen = 0 if declared(scope) <= self._limit else self._limit + 1

        async def capped() -> Message:
            nonlocal seen
            message = {} if seen > self._limit else await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise HTTPException(413, f"the body is longer than {self._limit} bytes: ask about less at a time")
            return message

        await self._app(scope, capped, send)


def declared(scope: Scope) -> int:
    """How long the body is by its header, 0 when that says nothing; of a number without end, the digits that suffice."""
    length = dict(scope["headers"]).get(b"content-length", b"")
    return int(length[:19]) if length.isdigit() else 0


class Observer:
    """Counts and logs every request: method, route, status, time and the name of the key."""

    def __init__(self, app: ASGIApp, meter: Meter) -> None:
        self._app, self._meter = app, meter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 500, time.perf_counter()

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._note(scope, status, time.perf_counter() - began)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", UNMATCHED)
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        key = scope.get("state", {}).get("key")
        self._meter.request(route, status, seconds)
        log.info("%s %s %d %.1f ms key=%s", method, route, status, seconds * 1000, getattr(key, "name", "-"))
