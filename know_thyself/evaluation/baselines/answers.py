"""What sampled answers say without being graded: how far they agree, by exact agreement of the extracted short answers.

Discrete semantic entropy (Farquhar et al. 2024) with equality of normalised answers as the test of meaning: answers of a few
words need no model to tell whether they mean the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from know_thyself.grading import normalise
from know_thyself.prompts import extract_answer


def meanings(replies: Sequence[str]) -> list[int]:
    """How many of `replies` share each meaning, the commonest first; empty answers are one meaning of their own."""
    return [count for _, count in Counter(normalise(extract_answer(reply)) for reply in replies).most_common()]


def agreement(replies: Sequence[str]) -> float:
    """Share of `replies` with the commonest meaning; nan without any."""
    return meanings(replies)[0] / len(replies) if replies else float("nan")


def semantic_entropy(replies: Sequence[str]) -> float:
    """Entropy in nats of the meanings of `replies`; nan without any."""
    if not replies:
        return float("nan")
    shares = np.array(meanings(replies)) / len(replies)
    return float(-(shares * np.log(shares)).sum())


_NUMBER = re.compile(r"(?<![\d.])(100|\d{1,2})(?![\d.]*\d)")


def stated_number(reply: str) -> float:
    """The first whole number from 0 to 100 in `reply`, as a share; nan where there is none."""
    found = _NUMBER.search(reply)
    return float(found[1]) / 100 if found else float("nan")
