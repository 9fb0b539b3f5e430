"""Tables about a world: what it holds, and how well exposure alone predicts what its model knows."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from rich.table import Table

from know_thyself.errors import DataError
from know_thyself.evaluation.metrics.discrimination import auroc
from know_thyself.experiment import Experiment
from know_thyself.experiment.epochs import committed_stage, read_index
from know_thyself.world.facts import Fact
from know_thyself.world.recipe import WorldRecipe

EXPOSURES = ((0, 0), (1, 1), (2, 3), (4, 7), (8, 15), (16, 31), (32, 10**9))


def describe_world(folder: Path, measured: Experiment | None) -> list[Table]:
    """The recipe and the counts of the world in `folder`; with an experiment on it, accuracy by exposure and the oracle.

    Raises `DataError` when `folder` is no world, or the experiment asked none of its questions.
    """
    if not (folder / "facts.parquet").is_file():
        raise DataError(f"{folder} holds no facts.parquet: give the folder of a world")
    facts = [Fact.from_row(row) for row in pq.read_table(folder / "facts.parquet").to_pylist()]
    recipe = WorldRecipe.model_validate_json((folder / "recipe.json").read_text())
    tables = [_counts(facts, recipe)]
    if measured is not None:
        tables.append(_accuracy(_joined(folder, facts, measured)))
    return tables


def _counts(facts: list[Fact], recipe: WorldRecipe) -> Table:
    table = Table("split", "subjects", "facts", "never told", title=f"world of seed {recipe.seed}", title_justify="left")
    total = Counter(fact.split for fact in facts)
    untold = Counter(fact.split for fact in facts if fact.exposure == 0)
    for split, count in total.items():
        subjects = len({fact.subject for fact in facts if fact.split == split})
        table.add_row(split, str(subjects), str(count), str(untold[split]))
    return table


def _joined(folder: Path, facts: list[Fact], measured: Experiment) -> list[tuple[int, int, int]]:
    """Exposure, right trials and trials of each question that the experiment graded, as the untrained model answered."""
    exposure = {fact.question_id: fact.exposure for fact in facts}
    graded = committed_stage(measured, read_index(measured).epochs[0].graded).read().to_pylist()
    asked = [row for row in graded if row["id"] in exposure and None not in row["correct"]]
    rows = [(exposure[row["id"]], sum(row["correct"]), len(row["correct"])) for row in asked]
    if not rows:
        raise DataError(f"experiment {measured.name} asked none of the questions of {folder}: name one that ran on this world")
    return rows


def _accuracy(rows: list[tuple[int, int, int]]) -> Table:
    exposure, right, trials = (np.array(column) for column in zip(*rows, strict=True))
    every = right == trials
    oracle = auroc(exposure.astype(np.float64), every)
    shares = {"all": every, "some": (right > 0) & ~every, "none": right == 0}
    told = ", ".join(f"{name} {share.mean():.1%}" for name, share in shares.items())
    caption = f"trials right: {told}; exposure predicts all with AUROC {'undefined' if oracle is None else f'{oracle:.3f}'}"
    table = Table(
        "exposure",
        "questions",
        "accuracy",
        "all right",
        title="what its model knows",
        caption=caption,
        title_justify="left",
        caption_justify="left",
    )
    for low, high in EXPOSURES:
        inside = (exposure >= low) & (exposure <= high)
        if inside.any():
            name = str(low) if low == high else f"{low} and more" if high >= 10**9 else f"{low} to {high}"
            table.add_row(
                name, str(inside.sum()), f"{right[inside].sum() / trials[inside].sum():.1%}", f"{every[inside].mean():.1%}"
            )
    return table
