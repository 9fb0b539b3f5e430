"""The numbers of one split at one epoch: the `S` of summary.json."""

from __future__ import annotations

from typing import Any

from know_thyself.evaluation.bootstrap import Statistics, at_once, bootstrap_intervals, mean_statistic
from know_thyself.evaluation.calibration import fit_method
from know_thyself.evaluation.ceiling import fit_concentration
from know_thyself.evaluation.metrics import calibration, classes, decision, discrimination
from know_thyself.evaluation.metrics.scores import Scores

Values = dict[str, Any]

ONE_CLASS = "all questions are of one class"
NO_FORECAST = "no calibration questions to fit the expected accuracy of the verdicts on"
REASONS = {
    "auroc": ONE_CLASS,
    "auroc_low": "too few groups, or too few questions of one class, to resample",
    "auroc_high": "too few groups, or too few questions of one class, to resample",
    "auroc_all_correct": "every question, or none, has all its trials right",
    "auroc_soft": "every trial, or none, is right",
    "auprc_cannot": "no question is of the class cannot",
    "auroc_can": "every question, or none, is of this class",
    "auroc_uncertain": "every question, or none, is of this class",
    "auroc_cannot": "every question, or none, is of this class",
    "quadratic_kappa": "all questions are of one class, and every verdict claims it",
    "brier_skill": "all questions have the same accuracy",
    "excess_brier": "a question has a single trial: use 2 or more",
    "prr": "all questions have the same accuracy",
    "mass": "the scores come without it",
}
"""Why a metric can be undefined though there are questions and a forecast."""


def summarize(scores: Scores, dropped: int, seed: int = 0, replicates: int = 1000) -> Values:
    """The `S` of summary.json: plain ints, floats, None, the confusion matrix, intervals, and the reason for each None.

    `dropped` is how many questions of the split have no row in `scores`. Numbers of single classes and of their order are
    there where there are more than two classes. `intervals` holds the 95 % interval of every number that has one, all on the
    same draws of groups; `undefined` says why a number is None.
    """
    numbers = at_once(statistics_of(scores), len(scores))
    intervals = bootstrap_intervals(statistics_of(scores), scores.group, seed=seed, replicates=replicates)
    low, high = intervals.get("auroc") or (None, None)
    values: Values = {
        "questions": len(scores),
        "dropped": dropped,
        **{name: numbers.get(name) for name in _names(scores)},
        "auroc_low": low,
        "auroc_high": high,
        "ece_band": _band(scores, seed, replicates),
        "confusion": classes.confusion(scores.ability, scores.verdict, len(scores.classes)).tolist(),
    }
    missing = [name for name, value in values.items() if value is None]
    return {
        **values,
        "intervals": {name: list(found) for name, found in intervals.items() if found is not None},
        "undefined": {name: _reason(name, scores) for name in missing},
    }


def statistics_of(scores: Scores) -> Statistics:
    """Every number of `scores` that can be resampled, as a function of weights."""
    means = {"qa_accuracy": scores.accuracy, "verdict_loss": classes.verdict_losses(scores.probabilities, scores.owed)}
    if len(scores.classes) > 2:
        means["ranked_probability"] = classes.ranked_distances(scores.probabilities, scores.ability)
    if scores.mass is not None:
        means["mass"] = scores.mass
    averages = {name: mean_statistic(column) for name, column in means.items()}
    parts: list[Statistics] = [
        lambda weights: {name: mean(weights) for name, mean in averages.items()},
        classes.agreement_statistics(scores.ability, scores.verdict, len(scores.classes)),
        discrimination.discrimination_statistics(scores),
    ]
    if scores.forecast is not None:
        parts.append(calibration.calibration_statistics(scores.forecast, scores.num_correct, scores.num_graded))
        parts.append(decision.decision_statistics(scores.forecast, scores.accuracy))
    return lambda weights: {name: values for part in parts for name, values in part(weights).items()}


OF_ALL = ("judgment_accuracy", "majority", "qa_accuracy", "macro_f1", "majority_macro_f1", "balanced_accuracy", "verdict_loss")
OF_RANKING = ("auroc", "auroc_all_correct", "auroc_soft", "auprc_cannot")
OF_FORECAST = ("ece", "ece_band", "brier", "brier_skill", "excess_brier", "log_loss", "aurc", "e_aurc", "prr")
OF_DECISION = ("accuracy_at_50", "accuracy_at_80", "coverage_at_90", "coverage_at_95")
OF_ORDER = ("quadratic_kappa", "class_distance", "ranked_probability")


def _names(scores: Scores) -> list[str]:
    """The numbers that scores of so many classes have, defined or not."""
    ordered = [*OF_ORDER, *(f"auroc_{name}" for name in scores.classes)] if len(scores.classes) > 2 else []
    return [*OF_ALL, *ordered, *OF_RANKING, *OF_FORECAST, *OF_DECISION, "mass"]


def _band(scores: Scores, seed: int, replicates: int) -> float | None:
    """The ECE that a judge who is right on average stays below, whose equal forecasts hide as unlike questions as here.

    How unlike is told from the outcomes about the forecast made right by a line on its odds: what is off is no excuse.
    """
    forecast, k, n = scores.forecast, scores.num_correct, scores.num_graded
    if forecast is None or not len(scores):
        return None
    righted = fit_method("platt", forecast, scores.accuracy).expected(forecast)
    spread = fit_concentration(righted, k, n)
    return calibration.ece_band(forecast, n, concentration=spread, seed=seed, replicates=replicates)


def _reason(name: str, scores: Scores) -> str:
    if not len(scores):
        return "no questions"
    if scores.forecast is None and name in (*OF_FORECAST, *OF_DECISION):
        return NO_FORECAST
    return REASONS.get(name, "")
