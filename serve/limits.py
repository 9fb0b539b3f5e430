"""How much each key may ask: counted in a window that moves, so that no 60 seconds hold more than its limit."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Literal, Protocol

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from serve.auth import Key
from serve.errors import ServiceError
from serve.policy import Limits


class RateStore(Protocol):
    """Where it is counted who took how much: in this process, or in one place for all replicas."""

    async def take(self, name: str, per_minute: int, cost: int) -> float:
        """Take `cost` of what `name` may have in any 60 seconds.

        0.0 when it was taken; else nothing was, and it is the seconds after which there is room again.
        """


class LocalStore:
    """The counts of this process."""

    def __init__(self) -> None:
        self._storage = MemoryStorage()
        self._window = MovingWindowRateLimiter(self._storage)

    async def take(self, name: str, per_minute: int, cost: int) -> float:
        """See `RateStore`."""
        limit = RateLimitItemPerMinute(per_minute)
        if self._window.hit(limit, name, cost=cost):
            return 0.0
        newest_first = self._storage.events.get(limit.key_for(name), [])
        leaving = max((entry.atime for entry in newest_first[per_minute - cost :]), default=0.0)
        return max(math.ulp(0.0), leaving + limit.get_expiry() - time.time())


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiter:
    """Holds each key to its own limits, or where it has none to `usual`; without keys nobody is held to any."""

    usual: Limits
    store: RateStore = field(default_factory=LocalStore)

    async def take(self, key: Key | None, what: Literal["requests", "questions"], cost: int) -> None:
        """Count `cost` for `key`. Raises `ServiceError` 429 where that is more than it may have."""
        if key is None or not cost:
            return
        setting = f"{what}_per_minute"
        allowed = getattr(key.limits, setting) or getattr(self.usual, setting)
        wait = await self.store.take(f"{key.name}/{what}", allowed, cost) if allowed else 0.0
        if wait:
            told = f"this key may have {allowed} {what} a minute: ask again later, or for less at a time"
            raise ServiceError(429, "rate_limit_exceeded", told, retry_after=math.ceil(wait))
