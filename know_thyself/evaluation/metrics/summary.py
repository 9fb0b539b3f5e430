"""The numbers of one split at one epoch: the `S` of summary.json."""

from __future__ import annotations

from typing import Any

from know_thyself.evaluation.metrics import calibration, classes, decision, discrimination
from know_thyself.evaluation.metrics.scores import Scores, mean

Values = dict[str, Any]

ONE_CLASS = "all questions are of one class"
NO_FORECAST = "no calibration questions to fit the expected accuracy of the verdicts on"
REASONS = {
    "auroc": ONE_CLASS,
    "auroc_low": "too few groups, or too few questions of one class, to resample",
    "auroc_high": "too few groups, or too few questions of one class, to resample",
    "auroc_all_correct": "every question, or none, has all its trials right",
    "auroc_soft": "every trial, or none, is right",
    "auroc_can": "every question, or none, is of this class",
    "auroc_uncertain": "every question, or none, is of this class",
    "auroc_cannot": "every question, or none, is of this class",
    "quadratic_kappa": "all questions are of one class, and every verdict claims it",
    "brier_skill": "all questions have the same accuracy",
    "excess_brier": "a question has a single trial: use 2 or more",
}
"""Why a metric can be undefined though there are questions and a forecast."""


def summarize(scores: Scores, dropped: int, seed: int = 0, replicates: int = 1000) -> Values:
    """The `S` of summary.json: plain ints, floats, None, the confusion matrix, and `undefined` with the reason for each None.

    `dropped` is how many questions of the split have no row in `scores`. Numbers of single classes and of their order are
    there where there are more than two classes.
    """
    calibrated = _calibration(scores, seed, replicates)
    values = {
        "questions": len(scores),
        "dropped": dropped,
        **_agreement(scores),
        **_discrimination(scores, seed, replicates),
        **calibrated,
        "mass": mean(scores.mass),
    }
    missing = [name for name, value in values.items() if value is None]
    lacks_forecast = calibrated if scores.forecast is None else {}
    undefined = {name: NO_FORECAST if name in lacks_forecast else REASONS.get(name, "") for name in missing}
    return {**values, "undefined": undefined if len(scores) else dict.fromkeys(missing, "no questions")}


def _agreement(scores: Scores) -> Values:
    """How verdicts and abilities agree, as classes."""
    matrix = classes.confusion(scores.ability, scores.verdict, len(scores.classes))
    line = classes.always_commonest(matrix)
    values: Values = {
        "judgment_accuracy": classes.accuracy(matrix),
        "majority": classes.accuracy(line),
        "qa_accuracy": mean(scores.accuracy),
        "macro_f1": classes.macro_f1(matrix),
        "majority_macro_f1": classes.macro_f1(line),
        "balanced_accuracy": classes.balanced_accuracy(matrix),
        "confusion": matrix.tolist(),
        "verdict_loss": classes.verdict_loss(scores.probabilities, scores.owed),
    }
    if len(scores.classes) > 2:
        values["quadratic_kappa"] = classes.quadratic_kappa(matrix)
        values["class_distance"] = classes.class_distance(matrix)
        values["ranked_probability"] = classes.ranked_probability(scores.probabilities, scores.ability)
    return values


def _discrimination(scores: Scores, seed: int, replicates: int) -> Values:
    """How well the confidence tells the event."""
    sure = scores.confidence
    low, high = discrimination.auroc_interval(scores, seed=seed, replicates=replicates) or (None, None)
    values = {
        "auroc": discrimination.auroc(sure, scores.event),
        "auroc_low": low,
        "auroc_high": high,
        "auroc_all_correct": discrimination.auroc(sure, scores.num_correct == scores.num_graded),
        "auroc_soft": discrimination.soft_auroc(sure, scores.accuracy),
    }
    if len(scores.classes) > 2:
        each = discrimination.auroc_by_class(scores)
        values |= {f"auroc_{name}": value for name, value in zip(scores.classes, each, strict=True)}
    return values


CALIBRATION = ("ece", "ece_band", "brier", "brier_skill", "excess_brier", "log_loss", "aurc")


def _calibration(scores: Scores, seed: int, replicates: int) -> Values:
    """How the forecast keeps to the accuracy measured; all None without a forecast."""
    forecast, outcome = scores.forecast, scores.accuracy
    if forecast is None:
        return dict.fromkeys(CALIBRATION)
    return dict(
        zip(
            CALIBRATION,
            (
                calibration.ece(forecast, outcome),
                calibration.ece_band(forecast, scores.num_graded, seed=seed, replicates=replicates),
                calibration.brier(forecast, outcome),
                calibration.brier_skill(forecast, outcome),
                calibration.excess_brier(forecast, scores.num_correct, scores.num_graded),
                calibration.log_loss(forecast, outcome),
                decision.aurc(forecast, outcome),
            ),
            strict=True,
        )
    )
