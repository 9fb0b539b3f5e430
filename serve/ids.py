"""Ids of judgments that vouch for themselves: what was judged and when is in the id, signed, so that none has to be kept.

An id is bound to whom it was given, by its signature alone: to anyone else it is as unknown as one that was made up.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import struct
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from know_thyself.errors import ConfigError

PREFIX = "jdg-"
FROM_ENVIRONMENT = "env:"
LEAST_SECRET = 32
"""Characters of a secret."""
STEPS = 250
"""A score is carried in one byte: to 0.002, for a judgment among others is weighed in tenths. Larger bytes are no scores."""
NO_SCORE = 255
_HEAD = struct.Struct(">?I6s8s")
_SIGNATURE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What an id says: at what second since 1970 which judge gave which score to each input, None where it gave none.

    `judge` is its digest in short. Scores are p_correct where the judge `is_calibrated`, and its confidence otherwise.
    """

    at: int
    judge: str
    is_calibrated: bool
    scores: tuple[float | None, ...]


class Signer:
    """Makes and reads the ids of the holders of one secret, which a service and its replicas share."""

    def __init__(self, secret: SecretStr) -> None:
        self._secret = secret

    def sign(self, tenant: str, judged: Judged) -> str:
        """A new id of `judged` for `tenant`; no two are alike."""
        head = _HEAD.pack(judged.is_calibrated, judged.at, bytes.fromhex(judged.judge), secrets.token_bytes(8))
        said = head + bytes(NO_SCORE if score is None else round(score * STEPS) for score in judged.scores)
        return _spelled(self._signature(tenant, said) + said)

    def read(self, tenant: str, text: str) -> Judged | None:
        """What the id `text` says; None unless it was made, and made for `tenant`."""
        try:
            whole = urlsafe_b64decode(text.removeprefix(PREFIX).encode() + b"==")
        except ValueError:
            return None
        signature, said = whole[:_SIGNATURE], whole[_SIGNATURE:]
        # The same bytes can be spelled in several ways, of which one is the id.
        if not hmac.compare_digest(signature, self._signature(tenant, said)) or _spelled(whole) != text:
            return None
        is_calibrated, at, judge, _ = _HEAD.unpack_from(said)
        scores = tuple(None if step == NO_SCORE else step / STEPS for step in said[_HEAD.size :])
        return Judged(at=at, judge=judge.hex(), is_calibrated=is_calibrated, scores=scores)

    def _signature(self, tenant: str, said: bytes) -> bytes:
        told = tenant.encode() + b"\0" + said
        return hmac.digest(self._secret.get_secret_value().encode(), told, hashlib.sha256)[:_SIGNATURE]


def _spelled(whole: bytes) -> str:
    return PREFIX + urlsafe_b64encode(whole).rstrip(b"=").decode()


def new_secret() -> SecretStr:
    """A secret that nobody else has."""
    return SecretStr(secrets.token_hex(LEAST_SECRET))


def read_secret(source: str) -> SecretStr:
    """The secret in the file `source`, or in the variable NAME of `env:NAME`. Raises `ConfigError` without its value."""
    name = source.removeprefix(FROM_ENVIRONMENT)
    try:
        text = os.environ[name] if source.startswith(FROM_ENVIRONMENT) else Path(source).read_text(encoding="utf-8")
    except (KeyError, OSError, ValueError) as error:
        told = f"the secret cannot be read from {source} ({type(error).__name__})"
        raise ConfigError(f"{told}: name a file that holds it, or a variable as env:NAME") from None
    if len(text.strip()) < LEAST_SECRET:
        raise ConfigError(f"the secret in {source} is shorter than {LEAST_SECRET} characters: make one by openssl rand -hex 32")
    return SecretStr(text.strip())
