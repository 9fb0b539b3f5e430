"""The HTML report of an experiment: one self-contained page, with one script of our own and without the network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from markupsafe import Markup

from know_thyself.evaluation.bootstrap import Gain
from know_thyself.evaluation.metrics.discrimination import auroc_gain
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.evaluation.report.classes import class_names, confusion_table, distribution
from know_thyself.evaluation.report.findings import (
    baseline_questions,
    baseline_rows,
    calibration_words,
    ceiling_words,
    decision_words,
    embedded_scores,
    threshold_rows,
    used_rows,
    used_words,
)
from know_thyself.evaluation.report.page import read_text, render_page
from know_thyself.evaluation.report.words import LEGEND, Facts, headline, number, percent
from know_thyself.experiment.writing import write_whole
from know_thyself.types import Split

TABLE_SPLITS = (Split.TRAIN, Split.DEV, Split.VALIDATION)
TABLE_NUMBERS = ("questions", "judgment_accuracy", "majority", "qa_accuracy", "auroc")


class JudgedQuestion(TypedDict):
    """A question worth reading: its accepted answers, the texts of its trials, what was claimed and what was measured."""

    question: str
    answers: Sequence[str]
    trials: Sequence[str]
    confidence: float
    num_correct: int
    num_graded: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a report shows. `summary` is the content of summary.json; `scores` are by epoch, then by split.

    `config` is nested and holds no secrets; `dropped` counts questions by reason; `examples` are by heading, such as
    "confident and wrong" and "doubtful and right"; `used` is the content of used.json, where anything was used.
    """

    name: str
    summary: Mapping[str, Any]
    scores: Mapping[int, Mapping[str, Scores]]
    best_epoch: int
    config: Mapping[str, Any]
    versions: Mapping[str, str]
    dropped: Mapping[str, int]
    examples: Mapping[str, Sequence[JudgedQuestion]]
    used: Mapping[str, Any] | None = None


def write_report(path: Path, report: Report) -> None:
    """Write `report` as one HTML file at `path`, whole or not at all. The same report gives the same bytes.

    Raises `StoreError` when it cannot be written.
    """
    # A lone surrogate in a trial's text must not cost the user the report.
    write_whole(path, render(report), errors="replace")


def render(report: Report) -> str:
    """The page. All text from the report is escaped; only our own figures enter as markup."""
    chosen = _validation(report, report.best_epoch)
    before, after = _facts(report, 0), _facts(report, report.best_epoch)
    judges, classes, embedded = _judges(report), class_names(report.summary["label_mode"]), embedded_scores(chosen)
    return render_page(
        "judge.html",
        script=None if embedded is None else read_text("slider.js"),
        report=report,
        about=report.summary,
        headline=headline(before, after, _gain(report), report.best_epoch, trained=max(report.scores, default=0) > 0),
        epochs=_epochs(report),
        columns=[(key, LEGEND[key][0]) for key in TABLE_NUMBERS],
        numbers=_numbers(before, after),
        chosen_label=_chosen_label(report),
        figures=_figures(report),
        classes=classes,
        percent=percent,
        audit=report.summary.get("audit"),
        ceiling=ceiling_words(report.summary),
        calibration=[*calibration_words(report.summary), *decision_words(report.summary)],
        baselines=baseline_rows(report.summary),
        compared=baseline_questions(report.summary),
        thresholds=threshold_rows(report.summary),
        embedded=embedded,
        used=used_rows(report.used),
        used_words=used_words(report.used),
        confusions=[confusion_table(title, facts, classes) for title, facts in judges],
        distribution=distribution(judges, classes),
        config=list(_flat(report.config)),
    )


def _facts(report: Report, epoch: int, split: str = Split.VALIDATION) -> Facts | None:
    by_epoch: dict[int, Mapping[str, Facts]] = {row["epoch"]: row for row in report.summary["epochs"]}
    return by_epoch.get(epoch, {}).get(split)


def _validation(report: Report, epoch: int) -> Scores | None:
    return report.scores.get(epoch, {}).get(Split.VALIDATION)


def _gain(report: Report) -> Gain | None:
    before, after = _validation(report, 0), _validation(report, report.best_epoch)
    if before is None or after is None:
        return None
    return auroc_gain(before, after, seed=report.summary["seed"])


def _chosen_label(report: Report) -> str:
    return f"epoch {report.best_epoch}" if report.best_epoch else "untrained"


def _judges(report: Report) -> list[tuple[str, Facts]]:
    """Title and validation numbers of the untrained and of the chosen judge, as far as they judged; one where they are one."""
    epochs = {"untrained": 0, _chosen_label(report): report.best_epoch}
    found = [(title, _facts(report, epoch)) for title, epoch in epochs.items()]
    return [(title, facts) for title, facts in found if facts is not None]


def _epochs(report: Report) -> list[dict[str, Any]]:
    """The rows of the table, by epoch: whether it is the chosen one, and for each split its numbers as shown."""
    epochs = []
    for epoch in (row["epoch"] for row in report.summary["epochs"]):
        found = [(split, _facts(report, epoch, split)) for split in TABLE_SPLITS]
        rows = [(str(split), [number(facts, key) for key in TABLE_NUMBERS]) for split, facts in found if facts is not None]
        epochs.append({"epoch": epoch, "chosen": epoch == report.best_epoch, "rows": rows})
    return epochs


def _numbers(before: Facts | None, after: Facts | None) -> list[tuple[str, str, str, str]]:
    """Name, untrained, chosen and meaning of every number on the validation questions that the label mode has."""
    measured = [facts for facts in (before, after) if facts is not None]
    known = {key: words for key, words in LEGEND.items() if any(key in facts for facts in measured)}
    shown = [tuple("not judged" if facts is None else number(facts, key) for facts in (before, after)) for key in known]
    return [(name, old, new, meaning) for (name, meaning), (old, new) in zip(known.values(), shown, strict=True)]


def _figures(report: Report) -> list[tuple[str, Markup | None, str]]:
    """Title, drawing (None: it cannot be drawn) and caption of each figure."""
    # Imported here because matplotlib takes most of a second, and importing `Report` must not.
    from know_thyself.evaluation.report import plots

    labels = {"untrained": 0, _chosen_label(report): report.best_epoch}
    found = {label: _validation(report, epoch) for label, epoch in labels.items()}
    curves = {label: scores for label, scores in found.items() if scores is not None}
    drawings = [
        ("Telling can from the rest (ROC)", plots.roc_svg(curves), "The nearer to the top left corner, the better."),
        (
            "Does the forecast come true? (reliability)",
            plots.reliability_svg(curves),
            "On the dotted line, questions forecast at 70 % have 70 % of their trials right. Below it: overconfident.",
        ),
        (
            "Answering only the surest questions (risk and coverage)",
            plots.risk_coverage_svg(curves),
            "The share of wrong trials as more questions are answered, highest forecast first. Random: no judge at all. "
            "Oracle: a judge that knows how every trial came out; no judge can do better.",
        ),
        (
            "What the judge says (histogram of forecasts)",
            plots.histogram_svg(curves),
            "The further apart the two colours, the better the judge tells them. Forecasts of the last curve above.",
        ),
        (
            "What the model can do (distribution of abilities)",
            plots.ability_svg(curves, report.summary.get("ceiling", {}).get("expected", ())),
            "Questions by how many of their trials were right. The ceiling on the AUROC follows from this spread.",
        ),
    ]
    return [(title, None if svg is None else Markup(svg), caption) for title, svg, caption in drawings]


def _flat(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The settings of a nested config under their dotted names, as flags spell them."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
