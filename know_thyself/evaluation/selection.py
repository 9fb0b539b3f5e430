"""What an epoch trains on: the questions judged wrong, all of them, or all weighted by their loss."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from know_thyself.evaluation.evidence import Examined, batches
from know_thyself.labeling import TargetRule, expected_verdict
from know_thyself.types import JudgmentExample

REPLAY = 0.5
"""Weight that every example keeps when weighted by loss; the rest follows its share of the loss. The mean weight is 1."""
CLIP = 1e-6


def select_examples(
    examined: Iterable[Examined], select: Literal["wrong", "all", "weighted"], targets: TargetRule
) -> list[JudgmentExample]:
    """The training examples of an epoch, from the last epoch's judgments; none when nothing was wrong."""
    chosen = (e for e in examined if select != "wrong" or _is_wrong(e, targets))
    weights = _loss_weights(examined, targets) if select == "weighted" else repeat(1.0)
    return [
        JudgmentExample(question_id=e.question.id, target=targets.target(e.label), weight=float(weight))
        for e, weight in zip(chosen, weights, strict=False)
    ]


def _is_wrong(examined: Examined, targets: TargetRule) -> bool:
    """Whether the verdict is not the one owed, in the mode of `targets`."""
    return examined.judgment.verdict is not expected_verdict(examined.label.ability, targets.mode)


def _loss_weights(examined: Iterable[Examined], targets: TargetRule) -> NDArray[np.float64]:
    """`REPLAY` plus a share proportional to each example's cross-entropy above the least its target allows."""
    divergence = np.concatenate([np.empty(0), *(_divergence(some, targets) for some in batches(examined))])
    mean = divergence.mean() if len(divergence) else 0.0
    return REPLAY + (1.0 - REPLAY) * (divergence / mean if mean > 0 else np.ones(len(divergence)))


def _divergence(examined: Sequence[Examined], targets: TargetRule) -> NDArray[np.float64]:
    target = np.array([targets.target(e.label) for e in examined])
    claimed = np.clip([e.judgment.probabilities for e in examined], CLIP, 1.0)
    divergence: NDArray[np.float64] = np.sum(target * (np.log(np.clip(target, CLIP, 1.0)) - np.log(claimed)), axis=1)
    return divergence.clip(min=0.0)
