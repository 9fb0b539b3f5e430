"""What should an epoch train on, towards what, and how fast? One change at a time against the preset's own way.

    python -m benchmarks.curriculum --preset world
    python -m benchmarks.curriculum --preset world --cells "wrong only" "hard targets"

Every cell runs in one experiment, so that all stand on the same answers, splits and untrained judge; what is done is kept. The
winner is the cell whose chosen epoch loses least on dev; validation stands beside it, with the paired difference to the first
cell on the same questions and the untrained model's labels. The last cells are the prototype's recipe, at three rates: all
weights, hard targets, a loss on every token, wrong judgments alone.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself.config import RunConfig, load_config
from know_thyself.evaluation.evidence import Records, scores_of
from know_thyself.evaluation.metrics.discrimination import auroc_gain
from know_thyself.evaluation.metrics.scores import Scores
from know_thyself.experiment import Experiment
from know_thyself.experiment.epochs import committed_stage, read_index
from know_thyself.pipelines import adaptive
from know_thyself.pipelines.inputs import check_inputs, load_questions, rule_of
from know_thyself.progress import Spoken, own_console
from know_thyself.types import Split

NAME = "curriculum"
FULL = "--tuning full --train.learning-rate 3e-4"
PROTOTYPE = "--train.select wrong --train.target hard --train.loss sequence"
CELLS = {
    "as the preset": "",
    "wrong only": "--train.select wrong",
    "weighted by loss": "--train.select weighted",
    "hard targets": "--train.target hard",
    "prompt: same": "--prompt-style same",
    "prompt: asked": "--prompt-style asked",
    "rank 4": "--train.lora.r 4 --train.lora.alpha 8",
    "rank 64": "--train.lora.r 64 --train.lora.alpha 128",
    "half the rate": "--train.learning-rate 5e-4",
    "twice the rate": "--train.learning-rate 2e-3",
    "all weights": FULL,
    "the prototype's recipe": f"{FULL} {PROTOTYPE}",
    "the same at a third of the rate": f"--tuning full --train.learning-rate 1e-4 {PROTOTYPE}",
    "the same at a tenth": f"--tuning full --train.learning-rate 3e-5 {PROTOTYPE}",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one way of training came to: the summary of its run, and its chosen judge against the untrained model's labels."""

    name: str
    summary: dict[str, Any]
    scores: Scores

    def facts(self, split: Split) -> dict[str, Any]:
        """The numbers of its chosen epoch on `split`."""
        chosen = next(row for row in self.summary["epochs"] if row["epoch"] == self.summary["best_epoch"])
        return dict(chosen[split])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    arguments, flags = parser.parse_known_args()
    console = own_console()
    cells = []
    for name in arguments.cells:
        console.print(f"\n{name}: {CELLS[name] or 'no change'}")
        cells.append(_run(name, load_config([*flags, *CELLS[name].split(), "--name", NAME], NAME), console))
        print("\n".join(_table(cells)), flush=True)


def _run(name: str, config: RunConfig, console: Spoken) -> Cell:
    path = adaptive.run(config, check_inputs(config), console)
    summary = json.loads((path / "summary.json").read_text())
    return Cell(name=name, summary=summary, scores=_frozen_scores(config, path, summary["best_epoch"]))


def _frozen_scores(config: RunConfig, path: Path, epoch: int) -> Scores:
    """Validation judgments of `epoch` against the labels that the untrained model's answers gave."""
    experiment = Experiment(path)
    epochs = read_index(experiment).epochs
    graded = committed_stage(experiment, epochs[0].graded).read()
    judged = committed_stage(experiment, epochs[epoch].judged).read()
    questions = load_questions(config).of(Split.VALIDATION)
    return scores_of(Records(questions, graded, judged, rule_of(config), config.label_mode), config.label_mode, None)


def _table(cells: Sequence[Cell]) -> list[str]:
    """The cells so far as lines of Markdown."""
    lines = [
        "| training | epoch | dev loss | dev AUROC | validation AUROC | first labels, against the first cell | QA change |",
        "|---|---|---|---|---|---|---|",
    ]
    for cell in cells:
        dev, validation = cell.facts(Split.DEV), cell.facts(Split.VALIDATION)
        gain = auroc_gain(cells[0].scores, cell.scores)
        against = "" if gain is None else f"{gain.difference:+.4f} [{gain.low:+.4f}, {gain.high:+.4f}]"
        change = validation.get("qa_change")
        lines.append(
            f"| {cell.name} | {cell.summary['best_epoch']} | {_shown(dev, 'verdict_loss')} | {_shown(dev, 'auroc')} "
            f"| {_shown(validation, 'auroc')} | {against} | {'0' if change is None else f'{change:+.1%}'} |"
        )
    return lines


def _shown(facts: Mapping[str, Any], key: str) -> str:
    value = facts[key]
    return "undefined" if value is None else f"{value:.4f}"


if __name__ == "__main__":
    main()
