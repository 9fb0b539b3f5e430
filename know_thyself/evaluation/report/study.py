"""The page of a study: what was learned and lost, and what became of judging, pool by pool."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.report.page import render_page
from know_thyself.evaluation.report.words import number, percent
from know_thyself.evaluation.study import GATES, V1_AFTER, V1_BEFORE, V2_AFTER
from know_thyself.experiment.writing import write_whole
from know_thyself.types import Pool

JUDGES = {
    V1_BEFORE: "judge v1, before teaching",
    V1_AFTER: "judge v1 on the taught model",
    V2_AFTER: "judge v2 on the taught model",
}
ABOUT = {
    Pool.JUDGED_TAUGHT: "taught, and in both judges' training",
    Pool.TAUGHT_HELD_OUT: "taught, and in no judge's training",
    Pool.JUDGED_NOT_TAUGHT: "the judges' dev questions, which chose their epochs; neither taught nor rehearsed",
    Pool.NEVER_SEEN: "validation: neither taught nor rehearsed, in no judge's training, and nothing was chosen by it",
}
NUMBERS = ("qa_accuracy", "auroc", "ece", "judgment_accuracy")


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyReport:
    """What the page shows: `study` is the content of study.json, `scores` are by judge and pool.

    `examples` are rows of `know_thyself.evaluation.ledger.ledger_examples` by heading.
    """

    name: str
    study: Mapping[str, Any]
    scores: Mapping[str, Mapping[Pool, Scores]]
    examples: Mapping[str, Mapping[str, Sequence[Mapping[str, Any]]]]


def write_study(path: Path, report: StudyReport) -> None:
    """Write `report` as one HTML file at `path`, whole or not at all. The same report gives the same bytes.

    Raises `StoreError` when it cannot be written.
    """
    write_whole(path, render_study(report), errors="replace")


def render_study(report: StudyReport) -> str:
    """The page. All text from the report is escaped; only our own figures enter as markup."""
    study = report.study
    return render_page(
        "study.html",
        script=None,
        report=report,
        about=study,
        findings=findings(study),
        judges=[(pool, ABOUT[pool], pool in GATES, _judge_rows(study, pool)) for pool in Pool],
        columns=("Answers right", "AUROC", "Calibration error (ECE)", "Verdicts right"),
        ledger=[_ledger_row(name, row) for name, row in study["ledger"].items()],
        rounds=study["teaching"]["rounds"],
        best_round=study["teaching"]["best_round"],
        percent=percent,
        flows=_flows(study),
        reliability=_reliability(report),
    )


def findings(study: Mapping[str, Any]) -> list[str]:
    """What came of the study, in sentences drawn from the numbers alone; the first is the finding."""
    teaching, taught = study["teaching"], study["ledger"][Pool.TAUGHT_HELD_OUT]
    never = study["ledger"][Pool.NEVER_SEEN]
    told = [
        _stale_words(study["paired"]["stale"][Pool.TAUGHT_HELD_OUT]),
        f"{teaching['taught']:,} facts that the model did not know were taught. Beside them it rehearsed, in its own words, "
        f"{_rehearsal(teaching)}.",
        f"Of the taught questions that no judge trained on, it now answers {_rate(taught, 'learned_rate')} of those it did not "
        f"know. Of the questions that it knew, and that were neither taught nor rehearsed, it still knows "
        f"{_rate(never, 'kept_rate')}; an untouched model, asked again, would not answer all of them right each time either.",
        f"Wrong answers under the verdict can, on questions never taught: {_rate(never, 'hallucination_before')} of all trials "
        f"before, {_rate(never, 'hallucination_after')} after.",
    ]
    updated = study["paired"]["updated"][Pool.NEVER_SEEN]["auroc"]
    if updated is not None:
        told.append(
            f"On questions never seen, the AUROC of judge v2 after teaching is {updated['difference']:+.3f} beside that of "
            f"judge v1 before (95 % interval {updated['low']:+.3f} to {updated['high']:+.3f})."
        )
    return told


def _rehearsal(teaching: Mapping[str, Any]) -> str:
    """What stood beside what was taught, in words."""
    parts = [
        (teaching["rehearsed"], "facts that it knew"),
        (teaching["doubted"], "facts that it did not know"),
        (teaching["wondered"], "questions that it asked itself"),
    ]
    return ", ".join(f"{count:,} {what}" for count, what in parts if count) or "nothing"


def _stale_words(gains: Mapping[str, Any]) -> str:
    """The finding: by the Brier score, which is defined also where the model now knows all that it was taught."""
    gain, ranking = gains["brier"], gains["auroc"]
    if gain is None:
        return "Whether the judge had to be trained anew cannot be said: the taught questions have no forecast."
    interval = f"95 % interval {gain['low']:+.3f} to {gain['high']:+.3f}"
    within = f"by {gain['difference']:+.3f} in the Brier score (above 0: better; {interval})"
    if ranking is not None:
        within += f" and {ranking['difference']:+.3f} in AUROC ({ranking['low']:+.3f} to {ranking['high']:+.3f})"
    if gain["low"] > 0:
        return (
            f"A judge must be trained anew when its model learns: on what was taught, v2 is better than the stale v1 {within}."
        )
    if gain["high"] < 0:
        return f"Training the judge anew made it worse on what was taught: v2 differs from the stale v1 {within}."
    return f"It is not shown that the judge had to be trained anew: on what was taught, v2 differs from the stale v1 {within}."


def _rate(row: Mapping[str, Any], name: str) -> str:
    value, low, high = row[name], row[f"{name}_low"], row[f"{name}_high"]
    if value is None:
        return "an undefined share (there were none)"
    return percent(value) if low is None else f"{percent(value)} ({percent(low)} to {percent(high)})"


def _judge_rows(study: Mapping[str, Any], pool: Pool) -> list[tuple[str, list[str]]]:
    return [(name, [number(study["judges"][judge][pool], key) for key in NUMBERS]) for judge, name in JUDGES.items()]


def _ledger_row(name: str, row: Mapping[str, Any]) -> tuple[str, list[str]]:
    counts = [f"{row[key]:,}" for key in ("questions", "kept", "lost", "learned", "still_unknown")]
    rates = [_rate(row, key) for key in ("kept_rate", "learned_rate", "hallucination_before", "hallucination_after")]
    return name.replace("_", " "), [*counts, *rates]


def _flows(study: Mapping[str, Any]) -> list[tuple[str, Markup | None]]:
    from know_thyself.evaluation.report.flow import flow_svg

    drawn = [(name.replace("_", " "), flow_svg(row["flow"], f"Abilities: {name}")) for name, row in study["ledger"].items()]
    return [(name, None if svg is None else Markup(svg)) for name, svg in drawn]


def _reliability(report: StudyReport) -> list[tuple[str, Markup | None]]:
    from know_thyself.evaluation.report.plots import reliability_svg

    drawn = []
    for pool in Pool:
        curves = {JUDGES[judge]: report.scores[judge][pool] for judge in JUDGES}
        drawn.append((pool.replace("_", " "), reliability_svg(curves)))
    return [(name, None if svg is None else Markup(svg)) for name, svg in drawn]
