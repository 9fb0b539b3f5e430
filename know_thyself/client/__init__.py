"""Ask a judge: over HTTP (`KnowThyself`, `AsyncKnowThyself`), or in this process (`know_thyself.client.local.LocalJudge`).

The clients load with their first use, as they need the extra `client`, and judges in this process do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from know_thyself.client.http import AsyncKnowThyself, KnowThyself

__all__ = ["AsyncKnowThyself", "KnowThyself"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from know_thyself.client import http

    return getattr(http, name)
