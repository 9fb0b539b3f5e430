"""Around every route: whom it is addressed to, a cap on bodies, headers that browsers keep to, and a line in the access log.

Nothing here notes any text of the request.
"""

from __future__ import annotations

import logging
import time

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.auth import is_loopback
from serve.errors import SECURE, ServiceError, answer_to
from serve.metrics import Meter

UNMATCHED = "unmatched"
"""The route of requests to none; their paths are the client's text, and without end."""
METHODS = frozenset("GET HEAD POST PUT PATCH DELETE OPTIONS".split())

RAW = [(name.lower().encode(), value.encode()) for name, value in SECURE.items()]
"""`SECURE` as ASGI has headers."""

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


class LoopbackOnly:
    """Refuses requests that name another host than this machine.

    A page from elsewhere whose name was made to mean 127.0.0.1 (DNS rebinding) would else read what it asks here.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] == "http" and not is_loopback(_named(scope)):
            refused = ServiceError(400, "invalid_host", "no keys are set up, so only 127.0.0.1, localhost or [::1] is served")
            await answer_to(refused)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _named(scope: Scope) -> str:
    """The host that the request names, without its port; empty for none, or more than one."""
    names = Headers(scope=scope).getlist("host")
    name = names[0] if len(names) == 1 else ""
    address, bracket, _ = name.removeprefix("[").partition("]")
    return address if bracket else name.partition(":")[0]


class Secured:
    """Gives every answer the headers `SECURE`, unless its route has set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""

        async def secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = {name for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(header for header in RAW if header[0] not in given)]
            await send(message)

        await self._app(scope, receive, secured)


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
