"""The picture of a ledger: how many questions of each ability became which, as bands from left to right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from know_thyself.evaluation.report.plots import svg_of
from know_thyself.types import Ability

COLORS = {Ability.CAN: "#1a7f37", Ability.UNCERTAIN: "#9a6700", Ability.CANNOT: "#767676"}
GAP = 0.04
"""Of the height, between two abilities."""
SIZE_INCHES = (4.2, 2.8)


def flow_svg(flow: Sequence[Sequence[int]], title: str) -> str | None:
    """`flow` counts questions by ability before (rows) and after (columns); None of no questions."""
    counts = np.asarray(flow, dtype=np.float64)
    if not counts.sum():
        return None
    figure = Figure(figsize=SIZE_INCHES, layout="constrained")
    axes = figure.subplots()
    axes.set(xlim=(-0.42, 1.42), ylim=(1 + 2 * GAP, -0.08))
    axes.set_axis_off()
    shares = counts / counts.sum()
    left, right = _starts(shares.sum(axis=1)), _starts(shares.sum(axis=0))
    _name(axes, "before", 0.0, counts.sum(axis=1), left)
    _name(axes, "after", 1.0, counts.sum(axis=0), right)
    for old in range(len(Ability)):
        for new in range(len(Ability)):
            _band(axes, left[old], right[new], shares[old, new], list(COLORS.values())[old])
            left[old] += shares[old, new]
            right[new] += shares[old, new]
    return svg_of(figure, title)


def _starts(shares: np.ndarray[tuple[int], np.dtype[np.float64]]) -> list[float]:
    """Where each block begins, from the top."""
    return [float(shares[:i].sum()) + i * GAP for i in range(len(shares))]


def _name(axes: Axes, when: str, side: float, counts: Sequence[float], starts: Sequence[float]) -> None:
    align = "right" if side == 0.0 else "left"
    axes.text(side, -0.03, when, ha="center", color="#57606a", fontsize=9)
    for ability, count, start in zip(Ability, counts, starts, strict=True):
        share = count / sum(counts)
        if count:
            away = side - 0.03 if side == 0.0 else side + 0.03
            axes.text(away, start + share / 2, f"{ability}: {int(count):,}", ha=align, va="center", fontsize=9)


def _band(axes: Axes, left: float, right: float, share: float, color: str) -> None:
    if not share:
        return
    x = np.linspace(0.0, 1.0, 40)
    eased = x * x * (3 - 2 * x)
    top = left + (right - left) * eased
    axes.fill_between(x, top, top + share, color=color, alpha=0.55, linewidth=0)
