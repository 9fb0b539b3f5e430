"""Engines at work: how many of them there are, and the seeds that they draw with."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from know_thyself.engine.protocol import EngineSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Pool:
    """The engines of a stage: their number and the rows they take at once. Decides no content."""

    engine: EngineSpec
    least: int
    most: int
    batch_size: int
    block_rows: int


def trial_seed(question_id: str, seed: int) -> int:
    """The seed of a question's first trial; trial i has this plus i. The same wherever and whenever the question runs."""
    digest = hashlib.sha256(f"{seed}\x1f{question_id}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
