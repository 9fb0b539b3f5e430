"""A cap on bodies in the proxies of Ray Serve, which would else hold whole bodies while the replicas are busy.

Where the cluster starts: `RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=serve.proxy:middlewares`.
"""

from __future__ import annotations

from starlette.middleware import Middleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serve.api import MAX_BODY
from serve.errors import SECURE, ServiceError, answer_to
from serve.middleware import declared


class ProxyCap:
    """Answers 413 by itself as soon as a body is known to be longer than `limit` bytes, and lets go of the rest."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif declared(scope) > self._limit:
            await _refuse(self._limit, scope, receive, send)
        else:
            await self._capped(scope, receive, send)

    async def _capped(self, scope: Scope, receive: Receive, send: Send) -> None:
        seen, is_over, has_begun = 0, False, False

        async def capped() -> Message:
            nonlocal seen, is_over
            if is_over:
                return {"type": "http.disconnect"}
            message = await receive()
            seen += len(message.get("body", b""))
            if seen <= self._limit:
                return message
            is_over = True
            if not has_begun:
                await _refuse(self._limit, scope, receive, send)
            return {"type": "http.disconnect"}

        async def passed(message: Message) -> None:
            nonlocal has_begun
            if not is_over:
                has_begun = True
                await send(message)

        await self._app(scope, capped, passed)


async def _refuse(limit: int, scope: Scope, receive: Receive, send: Send) -> None:
    told = f"the body is longer than {limit} bytes: ask about less at a time"
    await answer_to(ServiceError(413, "body_too_large", told), SECURE)(scope, receive, send)


def middlewares() -> list[Middleware]:
    """What Ray Serve puts around its proxies."""
    return [Middleware(ProxyCap, limit=MAX_BODY)]
