"""What the service asks of an answerer, and what becomes of one that fails."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from typing import Protocol

from know_thyself.asking import Answer, Asked, Sampling
from know_thyself.errors import EngineError, first_line
from serve.errors import RETRY_AFTER, ServiceError
from serve.judging import BusyError

log = logging.getLogger("serve")

Said = AsyncIterator[str | Answer]
"""An answer as it is said: its text in pieces, and last of all the whole of it."""


class Answerer(Protocol):
    """The model that is judged, as it answers. Many may ask at once."""

    def answer(self, asked: Asked, sampling: Sampling) -> Said:
        """The answer to `asked`, drawn by `sampling`.

        Raises `ServiceError` when the question cannot be asked, `BusyError` when too many wait, `EngineError` when it fails.
        """


async def answered(answerer: Answerer, asked: Asked, sampling: Sampling) -> Said:
    """What `answerer` says; raises nothing but `ServiceError`."""
    try:
        async for piece in answerer.answer(asked, sampling):
            yield piece
    except BusyError as error:
        busy = ServiceError(503, "answerer_busy", "too many questions wait for an answer: ask again later")
        busy.headers = {"Retry-After": str(error.retry_after)}
        raise busy from error
    except EngineError as error:
        log.error("the answerer failed: %s", first_line(error))
        failed = ServiceError(503, "answerer_failed", "the model that answers failed: ask again later")
        failed.headers = {"Retry-After": str(RETRY_AFTER)}
        raise failed from error


async def spoken(answer: Answer) -> Said:
    """An answer that is known already."""
    yield answer.text
    yield answer
