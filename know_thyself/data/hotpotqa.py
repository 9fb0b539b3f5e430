"""HotpotQA (Yang et al. 2018) in the hub's layout: questions that join facts of two of the paragraphs of their context."""

from __future__ import annotations

from typing import Any

from know_thyself.data.hub import Source
from know_thyself.data.rows import Draft, Row


def draft(row: Row) -> Draft:
    """The parts of a question in `row`; the context has a line `Title: sentence sentence` for each paragraph."""
    return Draft(row.get("question"), row.get("answer"), _context(row.get("context")), row.get("id"))


def _context(value: Any) -> str:
    """The paragraphs of `value`, lists of titles and of their sentences. Raises `ValueError` for anything else."""
    if value is None:
        return ""
    try:
        paragraphs = list(zip(value["title"], value["sentences"], strict=True))
        return "\n".join(f"{title}: {' '.join(map(str.strip, sentences))}" for title, sentences in paragraphs)
    except (TypeError, LookupError, ValueError) as error:
        raise ValueError("context is no list of titles and sentences") from error


SOURCE = Source(
    name="hotpotqa",
    hub="hotpotqa/hotpot_qa",
    draft=draft,
    subsets={"distractor": (90_447, 7_405), "fullwiki": (90_447, 7_405)},
)
