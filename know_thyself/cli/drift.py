"""The command `drift`, which asks whether a judge in service still means what it said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from know_thyself.errors import JudgeError

if TYPE_CHECKING:
    from know_thyself.evaluation.drift import Drift, Finding
    from know_thyself.journal import Recorded


def drift(
    journal: Annotated[Path, typer.Argument(help="the file of python -m serve --journal")],
    judge: Annotated[Path, typer.Option(help="folder of the judge: experiments/NAME/judge")],
    last: Annotated[int, typer.Option(min=1, help="look at so many judgments and feedbacks, the newest")] = 10_000,
) -> None:
    """Compare what a service judged, and how it turned out, with the judge's calibration set; say when to recalibrate."""
    from know_thyself.digests import SHORT
    from know_thyself.evaluation.drift import Answered, Scored, find_drift
    from know_thyself.journal import read_journal
    from know_thyself.judge import read_judge

    card = read_judge(judge)
    if card.reference is None:
        raise JudgeError(f"judge {judge} holds no picture of its calibration set: run its job again, nothing is asked anew")
    live = read_journal(journal, card.digest[:SHORT], last)
    found = find_drift(
        Scored(confidence=live.confidence, p_correct=live.p_correct, at=live.judged_at),
        Answered(forecast=live.forecast, correct=live.correct, at=live.told_of),
        card.reference,
    )
    for line in (*_counted(live, card.reference.n), *_told(found), found.advice):
        print(line)


def _counted(live: Recorded, calibrated_on: int) -> Iterator[str]:
    yield f"{len(live.confidence)} judgments and {len(live.correct)} feedbacks against {calibrated_on} calibration questions"
    if live.of_others:
        yield f"left out: {live.of_others} judgments of other judges"


def _told(found: Drift) -> Iterator[str]:
    """A line for each number that there is."""
    if found.index is not None:
        yield f"confidences: stability index {_shown(found.index)}; {found.index.usual:.3f} or less is no change"
    if found.expected is not None:
        yield f"accuracy to expect: {_shown(found.expected)}; {found.expected.usual:.3f} in the calibration set"
    if found.accuracy is not None:
        yield f"right answers told, less those to expect: {_shown(found.accuracy)}; {_off(found.accuracy)}"
    if found.ece is not None:
        yield f"calibration error: {_shown(found.ece)}; {found.ece.usual:.3f} or less is what chance brings"


def _off(finding: Finding) -> str:
    return "more than chance explains" if finding.is_off else "no more than chance explains"


def _shown(finding: Finding) -> str:
    if finding.interval is None:
        return f"{finding.value:.3f} (no interval)"
    return f"{finding.value:.3f} ({finding.interval.low:.3f} to {finding.interval.high:.3f})"
