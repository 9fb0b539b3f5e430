"""Columns of scores made by hand: of judges of two verdicts and of three, by the default rule."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from know_thyself.evaluation.metrics.scores import Floats, Scores, names_of


def make_scores(
    num_correct: Sequence[int], confidence: Sequence[float], num_graded: int = 5, group: Sequence[str] | None = None
) -> Scores:
    """A judge of two verdicts that says can with `confidence`."""
    right, sure = np.array(num_correct, dtype=np.int64), np.array(confidence, dtype=np.float64)
    outcome = right / num_graded
    return Scores(
        classes=("can", "cannot"),
        group=names_of([f"g{i}" for i in range(len(right))] if group is None else group),
        num_correct=right,
        num_graded=np.full(len(right), num_graded),
        ability=np.where(outcome >= 0.5, 0, 1),
        verdict=np.where(sure > 0.5, 0, 1),
        probabilities=np.stack([sure, 1 - sure], axis=1),
        owed=np.stack([outcome, 1 - outcome], axis=1),
        forecast=sure,
        mass=np.full(len(right), 0.9),
    )


def make_ternary(num_correct: Sequence[int], probabilities: Floats, forecast: Floats | None, num_graded: int = 5) -> Scores:
    """A judge of three verdicts with these `probabilities` `[questions, 3]`; no two of a row are alike."""
    right = np.array(num_correct, dtype=np.int64)
    outcome = right / num_graded
    ability = np.select([outcome == 1, outcome >= 0.5], [0, 1], 2)
    return Scores(
        classes=("can", "uncertain", "cannot"),
        group=names_of(map(str, range(len(right)))),
        num_correct=right,
        num_graded=np.full(len(right), num_graded),
        ability=ability,
        verdict=probabilities.argmax(axis=1),
        probabilities=probabilities,
        owed=np.eye(3)[ability],
        forecast=forecast,
        mass=np.full(len(right), 0.9),
    )


def simulated(num_questions: int, seed: int, noise: float = 0.3) -> Scores:
    """Questions whose accuracy is spread over 0..1, and a judge that sees it through noise, with many ties."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.6, 0.6, num_questions)
    sure = np.clip(truth + rng.normal(0, noise, num_questions), 0, 1).round(2)
    return make_scores(rng.binomial(5, truth).tolist(), sure.tolist())


def simulated_ternary(num_questions: int, seed: int, noise: float = 0.15) -> Scores:
    """The same for a judge of three verdicts, who forecasts what it sees and claims what two trials would show."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.6, 0.6, num_questions)
    seen = np.clip(truth + rng.normal(0, noise, num_questions), 0.01, 0.99)
    shares = np.stack([seen**2, 2 * seen * (1 - seen), (1 - seen) ** 2], axis=1)
    return make_ternary(rng.binomial(5, truth).tolist(), shares, seen)
