"""The service that escalated questions go to: it speaks OpenAI's API. What it says when it fails is neither told nor logged."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx2
from fastapi import Response
from fastapi.responses import JSONResponse

from know_thyself.client.exchange import key_in
from know_thyself.wire import ChatRequest
from serve.completions import DONE, event, streamed
from serve.errors import ServiceError
from serve.headers import Headers
from serve.policy import UpstreamPolicy

PATH = "chat/completions"
CONNECTING = 5.0
"""Seconds for a connection."""

log = logging.getLogger("serve")


def read_key(policy: UpstreamPolicy) -> str | None:
    """The key of the upstream, None where it needs none. Raises `ConfigError`, which does not show it."""
    if policy.key_variable is None:
        return None
    told = f"{policy.key_variable} holds no key for the upstream: export it, or leave key_variable out"
    return key_in(os.environ.get(policy.key_variable, ""), told)


class Upstream:
    """The upstream of `policy`. For one event loop; to be closed."""

    def __init__(self, policy: UpstreamPolicy) -> None:
        """Raises `ConfigError` where its key is not there."""
        key = read_key(policy)
        self._model = policy.model
        self._client = httpx2.AsyncClient(
            base_url=policy.base_url,
            headers={"Authorization": f"Bearer {key}"} if key else None,
            timeout=httpx2.Timeout(policy.timeout_seconds, connect=min(CONNECTING, policy.timeout_seconds)),
        )

    async def close(self) -> None:
        """Give all connections back."""
        await self._client.aclose()

    async def forward(self, request: ChatRequest, headers: Headers) -> Response:
        """The upstream's reply to `request`, with `headers` instead of its own.

        Raises `ServiceError`: 400 where it refuses the request, 429 where it is asked too much, 502 or 504 where it fails.
        """
        body = {**request.model_dump(exclude_unset=True, by_alias=True), "model": self._model}
        if request.stream:
            return await streamed(self._events(body), headers)
        with _told():
            answer = await self._client.post(PATH, json=body)
        return _passed_on(answer, headers)

    async def _events(self, body: dict[str, Any]) -> AsyncIterator[str]:
        with _told():
            async with self._client.sse(PATH, method="POST", json=body) as source:
                _check(source.response)
                source.response.encoding = "utf-8"  # as all event streams, whatever its header says
                async for said in source:
                    yield event(said.data)
                    if said.data == DONE:
                        return
        raise _failed("it broke off")


def _passed_on(answer: httpx2.Response, headers: Headers) -> Response:
    """The completion that `answer` holds, with `headers`. Raises `ServiceError` as `forward`, also for one that is no JSON."""
    _check(answer)
    with suppress(ValueError, RecursionError):
        completion = answer.json()
        if isinstance(completion, dict) and "choices" in completion:
            return JSONResponse(completion, headers=headers)
    raise _failed("its answer is no completion")


def _check(answer: httpx2.Response) -> None:
    """Raise `ServiceError` unless `answer` is a success: whose fault is it, the request's, the hour's, the upstream's?"""
    match answer.status_code:
        case 400 | 413 | 422 as status:
            log.warning("the upstream refuses a request: its answer has status %d", status)
            told = f"the upstream refuses this request (its answer has status {status}): ask for something else"
            raise ServiceError(400, "upstream_refused", told)
        case 429:
            log.warning("the upstream is asked too much")
            wait = _seconds(answer.headers.get("retry-after", ""))
            raise ServiceError(429, "upstream_busy", "the upstream is asked too much: ask again later", retry_after=wait)
        case status if not answer.is_success:
            raise _failed(f"its answer has status {status}")


def _seconds(wait: str) -> int:
    """The seconds that a header asks to `wait`; 0, which is not told, where it is no number of them, or days."""
    return int(wait) if re.fullmatch("[0-9]{1,5}", wait) else 0


@contextmanager
def _told() -> Iterator[None]:
    """Raise what is wrong with the connection as a `ServiceError`."""
    try:
        yield
    except httpx2.TimeoutException as error:
        log.error("the upstream failed: %s", type(error).__name__)
        raise ServiceError(504, "upstream_timeout", "the upstream took too long: ask again later") from error
    except httpx2.HTTPError as error:
        raise _failed(type(error).__name__) from error


def _failed(fault: str) -> ServiceError:
    log.error("the upstream failed: %s", fault)
    return ServiceError(502, "upstream_failed", f"the upstream failed ({fault}): ask again later")
