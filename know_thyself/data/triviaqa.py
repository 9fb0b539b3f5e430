"""TriviaQA (Joshi et al. 2017) in the hub's layout, closed book: its questions repeat within a split, and are merged later."""

from __future__ import annotations

from know_thyself.data.hub import Source
from know_thyself.data.rows import Draft, Row


def draft(row: Row) -> Draft:
    """The parts of a question in `row`: its value comes first among the answers, then the aliases, each spelling once."""
    answer = row.get("answer") or {}
    if not isinstance(answer, dict):
        raise ValueError("answer is no object")
    spelled = [answer.get("value"), *(answer.get("aliases") or [])]
    normalised = [answer.get("normalized_value"), *(answer.get("normalized_aliases") or [])]
    answers: dict[str, str] = {}
    for text in filter(None, [*spelled, *normalised]):
        answers.setdefault(text.casefold(), text)
    return Draft(row.get("question"), list(answers.values()), id=row.get("question_id"))


SOURCE = Source(
    name="triviaqa",
    hub="mandarjoshi/trivia_qa",
    draft=draft,
    subsets={"rc.nocontext": (138_384, 17_944), "unfiltered.nocontext": (87_622, 11_313)},
)
