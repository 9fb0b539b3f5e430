"""The figures of a report, as SVG elements to stand inside a page: no fonts, scripts, links or dates in them.

Each function takes one `Scores` per label and draws them alike; it returns None when nothing can be drawn.
"""

from __future__ import annotations

import html
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from know_thyself.evaluation.metrics.calibration import reliability_bins
from know_thyself.evaluation.metrics.decision import risk_coverage
from know_thyself.evaluation.metrics.discrimination import roc_curve
from know_thyself.evaluation.metrics.scores import Floats, Scores

STYLES: list[dict[str, Any]] = [{"color": "#767676", "linestyle": "--"}, {"color": "#0b62b8", "linestyle": "-"}]
"""Of a lone curve the last, of two the untrained and the chosen epoch: told apart by dashes as well as by colour."""

EXTRA: list[dict[str, Any]] = [{"color": "#9a6700", "linestyle": "-."}]
"""Of three, the first."""

REFERENCE: dict[str, Any] = {"color": "#999999", "linestyle": ":", "linewidth": 1}
ORACLE: dict[str, Any] = {"color": "#1a7f37", "linestyle": "-.", "linewidth": 1}
SIZE_INCHES = (4.2, 3.8)
MAX_POINTS = 400
HISTOGRAM_BINS = 20
NO_METADATA = dict.fromkeys(("Date", "Creator", "Format", "Type"))


def roc_svg(curves: Mapping[str, Scores]) -> str | None:
    """ROC: share of *can* questions found against share of all others let through, as the threshold on P(can) falls."""
    points = {label: roc_curve(scores.confidence, scores.event) for label, scores in curves.items()}
    if all(curve is None for curve in points.values()):
        return None
    figure, axes = _axes("not can, but judged can", "can, and judged can")
    axes.plot([0, 1], [0, 1], label="guessing", **REFERENCE)
    for (label, curve), style in zip(points.items(), _styles(curves), strict=True):
        if curve is not None:
            axes.plot(*_thinned(*curve), label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    return svg_of(figure, "ROC curve")


def reliability_svg(curves: Mapping[str, Scores]) -> str | None:
    """Reliability diagram: share of right trials against mean forecast, in bins of equal mass."""
    forecasts = _forecasts(curves)
    if forecasts is None:
        return None
    figure, axes = _axes("share of right trials, as forecast", "share of right trials, as measured")
    axes.plot([0, 1], [0, 1], label="calibrated", **REFERENCE)
    for (label, (forecast, outcome)), style in zip(forecasts.items(), _styles(curves), strict=True):
        held = reliability_bins(forecast, outcome)
        axes.plot(held.forecast, held.outcome, marker="o", markersize=4, label=label, **style)
    axes.set(xlim=(0, 1), ylim=(0, 1.02), aspect="equal")
    return svg_of(figure, "Reliability diagram")


def risk_coverage_svg(curves: Mapping[str, Scores]) -> str | None:
    """Risk-coverage: share of wrong trials among the questions of the highest forecast.

    The random and the oracle line belong to the last label.
    """
    forecasts = _forecasts(curves)
    if forecasts is None:
        return None
    figure, axes = _axes("share of questions answered", "share of wrong trials")
    for (label, columns), style in zip(forecasts.items(), _styles(curves), strict=True):
        axes.plot(*_thinned(*risk_coverage(*columns)), label=label, **style)
    _, measured = list(forecasts.values())[-1]
    axes.plot([0, 1], [1 - measured.mean()] * 2, label="random", **REFERENCE)
    axes.plot(*_thinned(*risk_coverage(measured, measured)), label="oracle", **ORACLE)
    axes.set(xlim=(0, 1), ylim=(-0.01, None))
    return svg_of(figure, "Risk-coverage curve")


def histogram_svg(curves: Mapping[str, Scores]) -> str | None:
    """How often each forecast is given, by the last label, apart for questions measured can and the others."""
    forecasts = _forecasts(curves)
    if forecasts is None:
        return None
    (forecast, _), scores = list(forecasts.values())[-1], list(curves.values())[-1]
    figure, axes = _axes("share of right trials, as forecast", "questions")
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1).tolist()
    parts = {"can": (scores.event, STYLES[-1]["color"]), "not can": (~scores.event, STYLES[0]["color"])}
    for label, (chosen, color) in parts.items():
        axes.hist(forecast[chosen], bins=edges, label=f"measured {label}", color=color, alpha=0.6)
    axes.set(xlim=(0, 1))
    return svg_of(figure, "Histogram of forecasts")


def ability_svg(curves: Mapping[str, Scores], expected: Sequence[float] = ()) -> str | None:
    """How many questions have how many trials right, and beside it what the fitted spread of accuracies expects."""
    scores = list(curves.values())[-1] if curves else None
    if scores is None or not len(scores) or len(set(scores.num_graded.tolist())) > 1:
        return None
    counts = np.bincount(scores.num_correct, minlength=int(scores.num_graded[0]) + 1)
    figure, axes = _axes("trials right", "questions")
    axes.bar(np.arange(len(counts)), counts, color=STYLES[-1]["color"], alpha=0.7, label="measured")
    if len(expected) == len(counts):
        axes.plot(np.arange(len(counts)), expected, "o", color="#1b1f24", label="beta-binomial fit")
    axes.set(xticks=np.arange(len(counts)))
    return svg_of(figure, "Distribution of abilities")


def _forecasts(curves: Mapping[str, Scores]) -> dict[str, tuple[Floats, Floats]] | None:
    """Forecast and measured accuracy by label; None without curves, and where one has no questions or no forecast."""
    columns = {label: (scores.forecast, scores.accuracy) for label, scores in curves.items()}
    known = {label: (forecast, outcome) for label, (forecast, outcome) in columns.items() if forecast is not None}
    drawable = known and len(known) == len(columns) and all(len(outcome) for _, outcome in known.values())
    return known if drawable else None


def _styles(curves: Mapping[str, Scores]) -> list[dict[str, Any]]:
    return [*EXTRA, *STYLES][-len(curves) :]


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """At most `MAX_POINTS` of the points, the first and the last among them."""
    kept = np.unique(np.linspace(0, len(x) - 1, MAX_POINTS).astype(int))
    return x[kept], y[kept]


def _axes(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def svg_of(figure: Figure, title: str) -> str:
    """`figure` as an `<svg>` element as wide as its place; group ids, which nothing refers to, would clash on a page and go."""
    if figure.axes[0].get_legend_handles_labels()[1]:
        figure.axes[0].legend(frameon=False, fontsize=9)
    written = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": title}):
        figure.savefig(written, format="svg", metadata=NO_METADATA, transparent=True)
    text = written.getvalue()
    _, _, element = text.partition("<svg")
    attributes, _, body = element.partition(">")
    view = attributes.partition('viewBox="')[2].partition('"')[0]
    body = re.sub(r'<g id="[^"]*"', "<g", body.strip())
    return f'<svg role="img" aria-label="{html.escape(title)}" viewBox="{view}">{body}'
