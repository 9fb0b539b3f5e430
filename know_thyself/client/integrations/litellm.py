"""LiteLLM: a classifier of its auto router, where the built-in one cannot be pointed at /v1/systemone.

    complexity_router_config:
      classifier_type: custom
      classifier_plugin: know_thyself.client.integrations.litellm.judge_classifier

`KT_URL` and `KT_API_KEY` say which service it asks. Unlike the built-in classifier, it has the chat judged with all its turns.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from know_thyself.client.http import AsyncKnowThyself

ROLES = frozenset({"system", "developer", "user", "assistant"})


class Context(Protocol):
    """What LiteLLM tells of a request, as far as it matters here."""

    structured_messages: Sequence[Mapping[str, Any]] | None
    raw_messages: Sequence[Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True)
class JudgeClassifier:
    """Tier `can` where the judge decides to answer, else `cannot`. It holds no connection: LiteLLM copies it whole."""

    can: str = "SIMPLE"
    cannot: str = "REASONING"
    timeout: float = 2.5

    async def classify(self, context: Context) -> str | None:
        """The tier of the request; None of one that is not text alone, which leaves it to LiteLLM's fallback, as errors do."""
        turns = [_turn(message) for message in context.structured_messages or context.raw_messages or ()]
        chat = [turn for turn in turns if turn is not None]
        if not chat or len(chat) < len(turns):
            return None
        url, key = os.environ.get("KT_URL", "http://127.0.0.1:8700"), os.environ.get("KT_API_KEY")
        async with AsyncKnowThyself(url, key, self.timeout) as client:
            judgment = await client.judge(chat)
        return self.can if judgment.decision == "answer" else self.cannot


def _turn(message: Mapping[str, Any]) -> dict[str, Any] | None:
    """`message` as a turn, without what LiteLLM adds to it; None of one that holds anything but text."""
    content = message.get("content")
    if isinstance(content, list):
        if any(part.get("type") != "text" for part in content):
            return None
        content = [{"type": "text", "text": part["text"]} for part in content]
    is_text = content is not None and message.get("role") in ROLES and not message.get("tool_calls")
    return {"role": message["role"], "content": content} if is_text else None


judge_classifier = JudgeClassifier()
"""The instance that LiteLLM's configuration names."""
