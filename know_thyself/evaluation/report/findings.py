"""The sections of a report on what summary.json says beside its epochs, in words and rows; what is undefined has its reason."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from know_thyself.evaluation.baselines import BASELINES
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.report.words import percent

MOST_EMBEDDED = 5000
"""Questions whose scores the page holds for its slider at most: evenly spaced by forecast beyond that."""
Summary = Mapping[str, Any]


def ceiling_words(summary: Summary) -> list[str]:
    """What caps the AUROC, what the judge reaches of it, and whether the fit behind it holds; nothing before it is known."""
    ceiling = summary.get("ceiling")
    if ceiling is None:
        return []
    if ceiling["auroc"] is None:
        return [f"The noise ceiling is undefined: {ceiling['reason']}."]
    trials = len(ceiling["observed"]) - 1
    words = [
        f"Labels from {trials} trials are partly chance: even a judge that knew each question's accuracy exactly would reach "
        f"an AUROC of {_within(ceiling, 'auroc')} only."
    ]
    if ceiling["fraction"] is not None:
        words.append(f"Of the way from guessing to that, this judge goes {_within(ceiling, 'fraction', share=True)}.")
    fit = ceiling["p_value"]
    if fit is None:
        words.append("How well the spread of accuracies fits cannot be tested with so few trials.")
    elif fit < 0.01:
        words.append(f"The spread of accuracies fits badly (p = {fit:.1g}): take the ceiling as a rough mark.")
    else:
        words.append(f"The spread of accuracies fits (p = {fit:.2f}).")
    return words


def calibration_words(summary: Summary) -> list[str]:
    """How the forecast was made, and what that did to the calibration error; nothing before it is known."""
    facts = summary.get("calibration")
    if facts is None:
        return []
    if facts["method"] is None:
        return [f"The forecast is the confidence as read, not calibrated: {facts['reason']}."]
    fitted = f"fitted on {facts['n']:,} questions ({facts['fitted_on']})"
    words = [f"The forecast is calibrated by the method {facts['method']}, {fitted}."]
    before, after = facts["ece_before"], facts["ece_after"]
    if before is not None and after is not None:
        words.append(f"On validation the calibration error was {before:.3f} before and is {after:.3f} after.")
    return words


def decision_words(summary: Summary) -> list[str]:
    """What a plain yes or no comes to at the cut that was tuned; nothing before it is known."""
    facts = summary.get("decision")
    if facts is None or facts["accuracy"] is None:
        return []
    cut = f"at the confidence of {facts['threshold']:.3f}, tuned on the calibration questions"
    return [f"Cut {cut}, its verdict is right for {_within(facts, 'accuracy', share=True)} of the validation questions."]


def baseline_rows(summary: Summary) -> list[tuple[str, str, str, str, str, str]]:
    """Name, meaning, AUROC, by how much the judge is better, tokens and time beside the judge; best first, unmeasured last."""
    compared = summary.get("baselines", {})
    rank = {name: 1.0 if row["auroc"] is None else -row["auroc"] for name, row in compared.items()}
    return [_baseline(name, compared[name]) for name in sorted(compared, key=lambda name: rank[name])]


def baseline_questions(summary: Summary) -> int:
    """The validation questions that the judge and its baselines are compared on; some have no value for all of them."""
    return max((row["questions"] for row in summary.get("baselines", {}).values()), default=0)


def _baseline(name: str, row: Mapping[str, Any]) -> tuple[str, str, str, str, str, str]:
    about = BASELINES[name].about if name in BASELINES else "scores from a file"
    auroc = f"undefined: {row['reason']}" if row["auroc"] is None else _within(row, "auroc")
    delta = "" if row["delta"] is None else _within(row, "delta", sign="+")
    tokens = "" if row["tokens"] is None else f"{row['tokens']:.1f}"
    latency = "" if row["relative_latency"] is None else f"{row['relative_latency']:.2g} ×"
    return name, about, auroc, delta, tokens, latency


def threshold_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Target, threshold, what the calibration questions showed of what passes, and what the validation questions did."""
    return [_threshold(row) for row in summary.get("thresholds", [])]


def _threshold(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    target = f"{row['target_accuracy']:.0%} right"
    sure = f"at {row['confidence']:.0%} confidence"
    if row["threshold"] is None:
        return target, f"not reachable {sure}, nor is any other", "", ""
    on = row["on"].replace("_", " ")
    told = f"{on} ≥ {row['threshold']:.3f}, {sure}"
    if not row["reachable"]:
        told = f"not reachable {sure}: best is {row['best_accuracy']:.0%}, with {on} ≥ {row['threshold']:.3f}"
    seen = f"{percent(row['accuracy'])} right, {percent(row['coverage'])} answered"
    if row["validation_accuracy"] is None:
        return target, told, seen, "nothing passes"
    return target, told, seen, f"{percent(row['validation_accuracy'])} right, {percent(row['validation_coverage'])} answered"


USES = {
    "start": "getting ready",
    "sample": "answering",
    "judge": "judging",
    "train": "training",
    "probe": "reading the untrained model for baselines",
}
"""The acts of used.json in words."""
PRICES = {"on_demand": "on demand", "spot": "on spot"}


def used_rows(used: Mapping[str, Any] | None) -> list[tuple[str, str, str, str, str]]:
    """What devices were held for, hours, questions, tokens read and written; a dash where it is not a matter of that."""

    def count(row: Mapping[str, int], name: str) -> str:
        return f"{row[name]:,}" if row[name] else "–"

    return [
        (
            USES[act],
            f"{row['device_seconds'] / 3600:.4g}",
            count(row, "questions"),
            count(row, "tokens_read"),
            count(row, "tokens_written"),
        )
        for act, row in ({} if used is None else used["acts"]).items()
    ]


def used_words(used: Mapping[str, Any] | None) -> list[str]:
    """The hours of devices in all, and what they cost at the prices given; nothing where nothing was used."""
    if used is None or not used["acts"]:
        return []
    words = [
        f"In all {used['device_hours']:.4g} hours of a device: a GPU, or without any, the cores of one engine or worker. "
        "What interruptions had done again is in it; a device's time after its last batch or step is not."
    ]
    for name, price in used["prices"].items():
        if price is not None:
            words.append(f"At {price:g} an hour {PRICES[name]}, that is {used['money'][name]:.4g}.")
    return words


def embedded_scores(scores: Scores | None) -> Markup | None:
    """Forecast and accuracy of each question, highest forecast first, as JSON that is inert inside a script element.

    None where there is no forecast to draw a line on.
    """
    if scores is None or scores.forecast is None or not len(scores):
        return None
    order = np.argsort(-scores.forecast, kind="stable")
    kept = order[np.unique(np.linspace(0, len(order) - 1, MOST_EMBEDDED).astype(int))]
    rows: Sequence[list[float]] = np.stack([scores.forecast[kept], scores.accuracy[kept]], axis=1).round(4).tolist()
    return Markup(json.dumps(rows, separators=(",", ":")))


def _within(row: Mapping[str, Any], name: str, *, sign: str = "", share: bool = False) -> str:
    """The number `name` of `row` with its interval."""
    values = [row[name], row[f"{name}_low"], row[f"{name}_high"]]
    shown = [None if value is None else percent(value) if share else f"{value:{sign}.3f}" for value in values]
    return f"{shown[0]} (no interval)" if None in shown[1:] else f"{shown[0]} ({shown[1]} to {shown[2]})"
