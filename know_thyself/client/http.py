"""A judgment service over HTTP, sync and async, with the same face as a judge in this process.

    judgment = KnowThyself("http://127.0.0.1:8700").judge("Where was Sisun Nosix born?")

What passes by itself (429, no connection, a failure that is not the service's own) is tried again, when the service says so
where it does, until the timeout of the whole call. The judgment is no other for that; but where only the answer was lost, the
service has counted the questions once more, for the limits of the key and among the scores that its journal keeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Self

import httpx2
import stamina

from know_thyself.client.exchange import (
    PATH,
    Call,
    Contexts,
    ItemLike,
    Judged,
    Piece,
    Service,
    bar_of,
    body_of,
    only,
    pieces_of,
    read,
    request_of,
    settled,
)
from know_thyself.errors import RemoteError
from know_thyself.wire import JudgmentItem, JudgmentRequest, JudgmentResponse

TIMEOUT, CONCURRENCY = 30.0, 4


class KnowThyself:
    """Asks the service at `base_url`; a context manager, and safe to share between threads.

    `timeout` is for a whole call with all its tries, in seconds; each wait for the network is at most what is left of it.
    `judge_many` has `concurrency` requests under way at a time. `transport` is for a service that is reached in another way.
    Raises `ConfigError` for an `api_key` that cannot be sent.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        concurrency: int = CONCURRENCY,
        transport: httpx2.BaseTransport | None = None,
    ) -> None:
        self._service, self._concurrency = Service(base_url, api_key, timeout), concurrency
        self._http = httpx2.Client(headers=self._service.headers, transport=transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def judge(
        self, item: ItemLike, context: str | None = None, threshold: float | None = None, target_accuracy: float | None = None
    ) -> JudgmentItem:
        """The judgment of a question, or of a chat as a list of turns.

        Raises `DataError` where that is neither, `RemoteError` where the service refuses it, fails or is out of reach.
        """
        return only(self.ask(request_of(item, context, bar_of(threshold, target_accuracy))))

    def judge_many(
        self,
        items: Sequence[ItemLike],
        contexts: Contexts | None = None,
        threshold: float | None = None,
        target_accuracy: float | None = None,
    ) -> list[Judged]:
        """A judgment of each of `items` in their order, or in its place why there is none.

        An error that would meet all of them (a key, a threshold out of reach, a service out of reach before any is judged) is
        raised: `DataError`, `RemoteError`.
        """
        pieces = pieces_of(items, contexts, bar_of(threshold, target_accuracy))
        with ThreadPoolExecutor(self._concurrency) as threads:
            return [item for part in threads.map(self._part, pieces) for item in part]

    def ask(self, request: JudgmentRequest) -> JudgmentResponse:
        """The whole answer to `request`. Raises `RemoteError`."""
        return read(self.post(PATH, body_of(request)))

    def post(self, path: str, body: bytes) -> httpx2.Response:
        """What the route at `path` answers to `body`, also an error. Raises `RemoteError` for one that did not pass."""
        call = self._service.call()
        return stamina.RetryingCaller(**call.tries)(call.again, self._once, path, body, call)

    def _once(self, path: str, body: bytes, call: Call) -> httpx2.Response:
        with call.reaching():
            response = self._http.post(self._service.root + path, content=body, timeout=call.left)
        return settled(response)

    def _part(self, piece: Piece) -> list[Judged]:
        try:
            return piece.placed(self.ask(piece.sent))
        except RemoteError as error:
            return piece.failed(error)


class AsyncKnowThyself:
    """As `KnowThyself`, for one event loop; an async context manager."""

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        concurrency: int = CONCURRENCY,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:
        self._service, self._concurrency = Service(base_url, api_key, timeout), concurrency
        self._http = httpx2.AsyncClient(headers=self._service.headers, transport=transport)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def judge(
        self, item: ItemLike, context: str | None = None, threshold: float | None = None, target_accuracy: float | None = None
    ) -> JudgmentItem:
        """See `KnowThyself.judge`."""
        return only(await self.ask(request_of(item, context, bar_of(threshold, target_accuracy))))

    async def judge_many(
        self,
        items: Sequence[ItemLike],
        contexts: Contexts | None = None,
        threshold: float | None = None,
        target_accuracy: float | None = None,
    ) -> list[Judged]:
        """See `KnowThyself.judge_many`."""
        pieces = pieces_of(items, contexts, bar_of(threshold, target_accuracy))
        room = asyncio.Semaphore(self._concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                parts = [group.create_task(self._part(piece, room)) for piece in pieces]
        except ExceptionGroup as failed:
            raise failed.exceptions[0] from None
        return [item for part in parts for item in part.result()]

    async def ask(self, request: JudgmentRequest) -> JudgmentResponse:
        """See `KnowThyself.ask`."""
        return read(await self.post(PATH, body_of(request)))

    async def post(self, path: str, body: bytes) -> httpx2.Response:
        """See `KnowThyself.post`."""
        call = self._service.call()
        return await stamina.AsyncRetryingCaller(**call.tries)(call.again, self._once, path, body, call)

    async def _once(self, path: str, body: bytes, call: Call) -> httpx2.Response:
        with call.reaching():
            response = await self._http.post(self._service.root + path, content=body, timeout=call.left)
        return settled(response)

    async def _part(self, piece: Piece, room: asyncio.Semaphore) -> list[Judged]:
        async with room:
            try:
                return piece.placed(await self.ask(piece.sent))
            except RemoteError as error:
                return piece.failed(error)
