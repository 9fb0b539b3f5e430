"""Who may ask what: keys of which the file holds digests alone, and the scope that every route wants."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

from fastapi import Depends, Request, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPBearer
from pydantic import AwareDatetime, Field, model_validator

from know_thyself.errors import ConfigError
from know_thyself.wire import Bar, Closed
from serve.errors import ServiceError
from serve.policy import NAME, Limits, read_settings

BEARER = HTTPBearer(auto_error=False, description="A key, as Authorization: Bearer KEY; none is needed where none are set up.")
"""For the OpenAPI document; `guarded` is what looks at keys."""


class Scope(StrEnum):
    """What a key may do."""

    JUDGE = "judge"
    FEEDBACK = "feedback"
    ADMIN = "admin"


class Key(Bar):
    """One key: the SHA-256 of its text, its scopes, until when it holds, and perhaps a bar and limits of its own."""

    name: str = Field(pattern=NAME)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    scopes: frozenset[Scope] = Field(min_length=1)
    expires: AwareDatetime | None = None
    limits: Limits = Limits()


class Keys(Closed):
    """All keys; without any, every caller may do everything."""

    keys: tuple[Key, ...] = ()

    @model_validator(mode="after")
    def _are_distinct(self) -> Self:
        for field in ("name", "sha256"):
            if len({getattr(key, field) for key in self.keys}) < len(self.keys):
                raise ValueError(f"two keys have the same {field}: give each its own")
        return self

    def find(self, text: str, now: datetime) -> Key | None:
        """The key that `text` is, unless it has expired `now`; all are compared, each in constant time."""
        digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()
        matching = [key for key in self.keys if hmac.compare_digest(key.sha256, digest)]
        return next((key for key in matching if key.expires is None or now < key.expires), None)


def read_keys(file: Path) -> Keys:
    """The keys in `file`, one at least. Raises `ConfigError`."""
    keys = read_settings(file, Keys)
    if not keys.keys:
        raise ConfigError(f"{file} holds no key: add one, or leave --keys out on a loopback host")
    return keys


def check_host(host: str, keys: Keys) -> None:
    """Raise `ConfigError` for a `host` that others can reach while there is no key that keeps them out."""
    if not keys.keys and not is_loopback(host):
        raise ConfigError(f"host {host!r} can be reached from outside, and no keys are set up: give --keys, or use 127.0.0.1")


def is_loopback(host: str) -> bool:
    """Whether `host`, an address or a name, is reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def guarded(scope: Scope, *, judges: bool = False) -> type[APIRoute]:
    """Routes that want a key of `scope` and count its requests, before they read anything else of the request.

    Where each is one to judge, it is not read either while the judge has no room for it.
    """

    class GuardedRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def guard(request: Request) -> Response:
                state = request.app.state
                request.state.key = admit(state.keyring.keys, request.headers.get("authorization", ""), scope)
                await state.limiter.take(request.state.key, "requests", 1)
                if judges:
                    state.serving.check_room(request.headers.get("content-length", ""))
                return await handle(request)

            return guard

    return GuardedRoute


def admit(keys: Keys, authorization: str, scope: Scope) -> Key | None:
    """The key of the header `authorization`, None where no keys are set up. Raises `ServiceError` 401 or 403."""
    if not keys.keys:
        return None
    scheme, _, text = authorization.partition(" ")
    key = keys.find(text.strip(), datetime.now(UTC)) if scheme.lower() == "bearer" else None
    if key is None:
        raise ServiceError(401, "invalid_api_key", "no valid key: send one as Authorization: Bearer KEY")
    if scope not in key.scopes:
        raise ServiceError(403, "missing_scope", f"this key may not do that: it takes one of scope {scope.value!r}")
    return key


async def _caller(request: Request) -> Key | None:
    key: Key | None = request.state.key
    return key


Caller = Annotated[Key | None, Depends(_caller)]
"""The key of a guarded route's caller."""
