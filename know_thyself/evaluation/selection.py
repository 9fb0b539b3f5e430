"""What an epoch trains on: the questions judged wrong, all of them, or all weighted by their loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from know_thyself.evaluation.evidence import Examined
from know_thyself.labeling import expected_verdict, soft_target
from know_thyself.types import JudgmentExample, LabelMode

REPLAY = 0.5
"""Weight that every example keeps when weighted by loss; the rest follows its share of the loss. The mean weight is 1."""
CLIP = 1e-6


def select_examples(
    examined: Sequence[Examined], select: Literal["wrong", "all", "weighted"], mode: LabelMode
) -> list[JudgmentExample]:
    """The training examples of an epoch, from the last epoch's judgments, with soft targets; none when nothing was wrong."""
    chosen = [e for e in examined if select != "wrong" or e.judgment.verdict is not expected_verdict(e.label.ability, mode)]
    weights = _loss_weights(chosen) if select == "weighted" else np.ones(len(chosen))
    return [
        JudgmentExample(question_id=e.question.id, target=soft_target(e.label), weight=float(weight))
        for e, weight in zip(chosen, weights, strict=True)
    ]


def _loss_weights(examined: Sequence[Examined]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """`REPLAY` plus a share proportional to each example's cross-entropy above the least its soft target allows."""
    target = np.array([soft_target(e.label) for e in examined])
    claimed = np.clip([e.judgment.probabilities for e in examined], CLIP, 1.0)
    divergence = np.sum(target * (np.log(np.clip(target, CLIP, 1.0)) - np.log(claimed)), axis=1).clip(min=0.0)
    mean = divergence.mean()
    return REPLAY + (1.0 - REPLAY) * (divergence / mean if mean > 0 else np.ones(len(examined)))
