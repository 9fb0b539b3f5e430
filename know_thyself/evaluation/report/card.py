"""The model card of a judge, as the hub shows it: Markdown with its results, without questions, answers or paths."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from know_thyself.evaluation.report.findings import (
    baseline_questions,
    baseline_rows,
    calibration_words,
    ceiling_words,
    threshold_rows,
)
from know_thyself.evaluation.report.words import LEGEND, number
from know_thyself.types import Split

NUMBERS = ("auroc", "auroc_all_correct", "judgment_accuracy", "majority", "qa_accuracy", "ece", "ece_band", "brier", "prr")
_LICENCE = re.compile(r"^license:\s*([A-Za-z0-9.+-]{1,40})\s*$", re.MULTILINE)


def render_card(summary: Mapping[str, Any], base_id: str | None, licence: str | None) -> str:
    """The card of the chosen epoch in `summary`; `base_id` is the base's name on the hub, if it has one."""
    # A card is Markdown: nothing here comes from a user but names of models and data sets.
    environment = Environment(autoescape=False, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files(__package__).joinpath("card.md").read_text(encoding="utf-8"))
    chosen = next(row for row in summary["epochs"] if row["epoch"] == summary["best_epoch"])
    facts = chosen[Split.VALIDATION]
    audited = summary.get("audit")
    return template.render(
        summary={**summary, "dataset": Path(summary["dataset"]).name},
        model=base_id or Path(summary["model"]).name,
        base_id=base_id,
        licence=licence,
        epoch=summary["best_epoch"],
        facts=facts,
        numbers=[(LEGEND[name][0], number(facts, name)) for name in NUMBERS],
        words=[*([audited["verdict"]] if audited else []), *ceiling_words(summary), *calibration_words(summary)],
        thresholds=threshold_rows(summary),
        baselines=baseline_rows(summary),
        compared=baseline_questions(summary),
    )


def licence_of(base: Path) -> str | None:
    """The licence that the model card in the folder `base` states, None where there is none."""
    card = base / "README.md"
    found = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace")) if card.is_file() else None
    return found[1] if found else None
