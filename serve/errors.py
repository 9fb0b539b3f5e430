"""Every answer that is not a success, in the shape of OpenAI's error objects; none holds what was asked."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from know_thyself.errors import INTERNAL, EngineError, first_line, said
from know_thyself.wire import Error, ErrorResponse, ErrorType
from serve.judging import BusyError

RETRY_AFTER = 5
"""Seconds after which a judge that failed may be asked again."""
LONGEST_PARAM = 100
"""Characters of the place of a fault: the names of unknown keys are the client's."""
TAGS = frozenset(
    "chat batch str bool constrained-str list[constrained-str] systemone decisions predicate choice score "
    "list[DecisionText] list[DecisionMessage]".split()
)
"""Parts of the place of a fault that pydantic adds, and that are no keys."""
CODES = {400: "invalid_body", 404: "not_found", 405: "method_not_allowed", 413: "body_too_large"}
TYPES: dict[int, ErrorType] = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}
SECURE = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""Headers by which browsers run nothing of an answer, show it in no other page, and keep no copy."""

log = logging.getLogger("serve")


class ServiceError(Exception):
    """A request that is refused: with which status and code, why, and for which of its parameters; `headers` go with it.

    One that is worth sending again says after how many seconds by a `retry_after` above 0.
    """

    def __init__(self, status: int, code: str, message: str, param: str | None = None, *, retry_after: int = 0) -> None:
        super().__init__(status, code, message, param)
        self.status, self.code, self.message, self.param = status, code, message, param
        self.headers: Mapping[str, str] = {
            **({"WWW-Authenticate": "Bearer"} if status == 401 else {}),
            **({"Retry-After": str(retry_after)} if retry_after else {}),
        }

    @property
    def error(self) -> Error:
        """What the client is told."""
        kind: ErrorType = "server_error" if self.status >= 500 else TYPES.get(self.status, "invalid_request_error")
        return Error(message=self.message, type=kind, param=self.param, code=self.code)


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These statuses for the OpenAPI document of a route."""
    return {status: {"model": ErrorResponse, "description": HTTPStatus(status).phrase} for status in statuses}


def answer_errors(app: FastAPI) -> None:
    """Let `app` answer every error in the one shape."""
    app.add_exception_handler(ServiceError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(EngineError, _judge_failed)
    app.add_exception_handler(Exception, _unexpected)


def answer_to(error: ServiceError, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """The answer that tells `error`, with more `headers` than its own."""
    sent = {**error.headers, **(headers or {})}
    return JSONResponse(ErrorResponse(error=error.error).model_dump(), error.status, sent)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return answer_to(error)


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    """The first thing that is wrong with a body: where and what, never its value."""
    assert isinstance(error, RequestValidationError)
    fault = error.errors()[0]
    if fault["type"] == "json_invalid":
        return answer_to(ServiceError(400, "invalid_json", f"the body is no JSON ({fault['ctx']['error']}): mend it"))
    param = ".".join(str(part) for part in fault["loc"][1:] if part not in TAGS)[:LONGEST_PARAM] or "body"
    return answer_to(ServiceError(422, fault["type"], f"{param}: {said(fault['msg'])}", param))


async def _http(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    code = CODES.get(error.status_code, "http_error")
    return answer_to(ServiceError(error.status_code, code, str(error.detail)), error.headers)


async def _judge_failed(_: Request, error: Exception) -> JSONResponse:
    if isinstance(error, BusyError):
        return _busy(error.retry_after)
    log.error("the judge failed: %s", first_line(error))
    return answer_to(ServiceError(503, "judge_failed", "the judge failed: ask again later", retry_after=RETRY_AFTER))


@cache
def _busy(retry_after: int) -> JSONResponse:
    """Made once: it is given most where there is the least time to make it."""
    busy = "too many questions wait for the judge: ask again later"
    return answer_to(ServiceError(429, "judge_busy", busy, retry_after=retry_after))


async def _unexpected(_: Request, __: Exception) -> JSONResponse:
    # This answer is given outside of all middleware.
    return answer_to(ServiceError(500, INTERNAL, "something that should not happen did: please report it"), SECURE)
