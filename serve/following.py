"""What an operator may change on disk while the service runs is looked at for as long as it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

PERIOD = 2.0
"""Seconds between two looks."""

Look = Callable[[], Awaitable[None]]
"""Takes over what has changed, and raises nothing."""


@asynccontextmanager
async def following(look: Look) -> AsyncIterator[None]:
    """Meanwhile, `look` every `PERIOD` seconds."""
    task = asyncio.create_task(_follow(look))
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _follow(look: Look) -> None:
    while True:
        await look()
        await asyncio.sleep(PERIOD)
