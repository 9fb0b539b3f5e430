"""What summary.json says beside its epochs: the ceiling, the calibration and the thresholds of the chosen judge."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.evaluation.calibration import Calibration, ConfidenceMap, Fitted, choose_calibration
from know_thyself.evaluation.ceiling import ceiling_of, fit_beta_binomial, goodness_of_fit
from know_thyself.evaluation.metrics.calibration import ece
from know_thyself.evaluation.metrics.discrimination import ranking_statistics
from know_thyself.evaluation.metrics.scores import Floats, Scores
from know_thyself.evaluation.thresholds import GRID, TARGETS, Threshold, for_accuracy

Facts = dict[str, Any]


def beside_epochs(fitted: Fitted | None, learned: Scores, measured: Scores, seed: int = 0) -> Facts:
    """The ceiling, the calibration `fitted`, the tuned decision and the thresholds of a judge, as summary.json names them."""
    return {
        "ceiling": ceiling_facts(measured, seed),
        "calibration": calibration_facts(fitted, measured),
        "decision": decision_facts(learned, measured, seed),
        "thresholds": threshold_facts(None if fitted is None else fitted.calibration, learned, measured),
    }


def ceiling_facts(scores: Scores, seed: int = 0) -> Facts:
    """The best AUROC of the event that labels from so few trials allow, and what the judge reaches of it.

    With the fitted spread of accuracies and how well it fits. Undefined, with the reason, without questions and where these had
    unequal numbers of trials, or one.
    """
    trials = np.unique(scores.num_graded)
    if len(trials) != 1 or trials[0] < 2:
        reason = (
            "questions have unequal numbers of trials" if len(trials) > 1 else "it takes two trials or more of each question"
        )
        return {"auroc": None, "fraction": None, "reason": "no questions" if not len(trials) else reason}
    n = int(trials[0])
    spread = fit_beta_binomial(scores.num_correct, scores.num_graded)
    fit = goodness_of_fit(spread, scores.num_correct, n)
    judge = ranking_statistics(scores.confidence, {"auroc": scores.event})
    found = ceiling_of(judge, _positive(scores, n), scores.num_correct, scores.group, seed=seed)
    low, high = found.interval or (None, None)
    fraction_low, fraction_high = found.fraction_interval or (None, None)
    return {
        "auroc": found.auroc,
        "auroc_low": low,
        "auroc_high": high,
        "fraction": found.fraction,
        "fraction_low": fraction_low,
        "fraction_high": fraction_high,
        "alpha": spread.alpha,
        "beta": spread.beta,
        "correlation": spread.correlation,
        "observed": fit.observed,
        "expected": fit.expected,
        "p_value": fit.p_value,
        "reason": "" if found.auroc is not None else "all questions are of one class",
    }


def _positive(scores: Scores, n: int) -> Floats:
    """For each k of n whether the event holds: from the least k on of which the labels say so."""
    holds = np.zeros(n + 1)
    if scores.event.any():
        holds[scores.num_correct[scores.event].min() :] = 1.0
    return holds


def calibration_facts(fitted: Fitted | None, measured: Scores) -> Facts:
    """Which calibration was chosen, what each candidate lost when it was, and the ECE before and after on `measured`.

    Before means the confidence as read, held against k/n.
    """
    if fitted is None:
        return {"method": None, "ece_before": None, "ece_after": None, "reason": "no calibration questions"}
    calibration = fitted.calibration
    expected = calibration.forecast(measured.probabilities)
    return {
        "method": calibration.method,
        "id": calibration.id,
        "fitted_on": calibration.fitted_on,
        "n": calibration.n,
        "losses": dict(fitted.losses),
        "ece_before": ece(measured.confidence, measured.accuracy),
        "ece_after": ece(expected, measured.accuracy),
        "reason": "",
    }


def decision_facts(learned: Scores, measured: Scores, seed: int = 0) -> Facts:
    """How often a plain yes or no is right about the event on `measured`, said from the confidence that is best on `learned`.

    Of confidences that are equally good the middle one. `accuracy` is to be held against the majority and `judgment_accuracy`.
    """
    if not len(learned) or not len(measured):
        return {"threshold": None, "accuracy": None, "accuracy_low": None, "accuracy_high": None, "reason": "no questions"}
    right = [float(np.mean((learned.confidence >= cut) == learned.event)) for cut in GRID]
    best = np.flatnonzero(np.isclose(right, max(right)))
    threshold = float(GRID[best[len(best) // 2]])
    agrees = ((measured.confidence >= threshold) == measured.event).astype(np.float64)
    low, high = mean_interval(agrees, measured.group, seed=seed) or (None, None)
    return {
        "threshold": threshold,
        "accuracy": float(agrees.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "reason": "",
    }


def threshold_facts(calibration: Calibration | None, learned: Scores, measured: Scores) -> list[Facts]:
    """For each of `TARGETS` the threshold that promises it, found on `learned`, and what it comes to on `measured`.

    `on` says what the threshold is held against: `p_correct` of two verdicts that are calibrated, whose maps rise with the
    confidence; else the `confidence` as read. `accuracy` is the share of what passes of which the event holds.
    """
    promises = [for_accuracy(learned.confidence, learned.event, target) for target in TARGETS]
    return [_threshold_row(promise, calibration, measured) for promise in promises]


def _threshold_row(promise: Threshold, calibration: Calibration | None, measured: Scores) -> Facts:
    values = dataclasses.asdict(promise)
    row = {
        "target_accuracy": values.pop("target"),
        "confidence": values.pop("level"),
        "best_accuracy": values.pop("best"),
        **values,
    }
    mapped = isinstance(calibration, ConfidenceMap)
    row["on"] = "p_correct" if mapped else "confidence"
    row["confidence_threshold"] = promise.threshold
    if isinstance(calibration, ConfidenceMap) and promise.threshold is not None:
        row["threshold"] = float(calibration.expected(np.array([promise.threshold]))[0])
    passes = measured.confidence >= (2.0 if promise.threshold is None else promise.threshold)
    row["validation_accuracy"] = float(measured.event[passes].mean()) if passes.any() else None
    row["validation_coverage"] = float(passes.mean()) if len(measured) else None
    return row


def refitted_facts(learned: Scores, measured: Scores, sizes: tuple[int, ...], seed: int = 0) -> dict[str, Facts]:
    """The ECE on `measured` of a calibration fitted anew on so many of the `learned` questions, drawn by seed, by their number.

    For a judge that has come to questions of another kind: how many labels make its probabilities right again.
    """
    order = np.random.default_rng([seed, 3]).permutation(len(learned))
    found = {}
    for size in sizes:
        drawn = order[:size]
        fitted = choose_calibration(learned.probabilities[drawn], learned.accuracy[drawn], learned.group[drawn], seed=seed)
        after = None if fitted is None else ece(fitted.calibration.forecast(measured.probabilities), measured.accuracy)
        reason = "" if fitted is not None else "too few questions to refit on"
        method = None if fitted is None else fitted.calibration.method
        found[str(len(drawn))] = {"labels": len(drawn), "method": method, "ece": after, "reason": reason}
    return found
