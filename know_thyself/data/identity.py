"""When two questions are the same: by content, and nearly."""

from __future__ import annotations

import hashlib

from know_thyself.grading import normalise


def question_id(text: str, context: str | None) -> str:
    """The id of a question that came without one: the hash of its normalised text and context."""
    content = "\x1f".join(" ".join(part.split()) for part in (text, context or ""))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def content_key(text: str, context: str | None) -> str:
    """Equal for questions of equal text and context, up to white space."""
    return question_id(text, context)


def near_duplicate_key(text: str) -> str:
    """Equal for questions that differ only in case, punctuation, articles and the order of words."""
    return " ".join(sorted(normalise(text).split())) or text.strip()
