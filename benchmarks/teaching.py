"""What does teaching cost? One change at a time in how a study teaches, against the preset's own way.

    python -m benchmarks.teaching --preset world
    python -m benchmarks.teaching --preset world --cells "no rehearsal" "rank 64"

Every cell teaches the same facts to the same model in one experiment; what is done is kept. Facts are known when every trial is
right. Of the facts that were taught, the share now known; of those known before, the share that still is: rehearsed ones, and
validation questions, which nothing touched. 95 % intervals by resampling groups.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from know_thyself.config import RunConfig, load_config
from know_thyself.evaluation.bootstrap import mean_interval
from know_thyself.pipelines import rounds
from know_thyself.pipelines.bench import open_bench
from know_thyself.pipelines.study import StudyInputs, check_study
from know_thyself.pipelines.teaching import abilities, plan_lessons, teach
from know_thyself.progress import Spoken, own_console
from know_thyself.types import AbilityLabel, Pool, Question

NAME = "teaching"
CELLS = {
    "as the preset": "",
    "known facts alone rehearsed": "--study.wondered 0 --study.emphasis 1",
    "unknown facts instead of questions of its own": "--study.wondered 0 --study.doubts 4",
    "no emphasis": "--study.emphasis 1",
    "no rehearsal": "--study.rehearsal 0 --study.wondered 0",
    "rank 64": "--study.lora.r 64 --study.lora.alpha 128",
    "rank 4": "--study.lora.r 4 --study.lora.alpha 8",
    "half the rate": "--study.learning-rate 5e-4",
    "twice the rate": "--study.learning-rate 2e-3",
    "twice the passes": "--study.passes 10",
    "feed-forward layers alone": """--study.lora.targets ["gate_proj","up_proj","down_proj"]""",
    "all weights": "--tuning full --study.learning-rate 3e-4",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one way of teaching came to: shares by column of the table, each with its interval as text."""

    name: str
    best_round: int
    shares: Sequence[str]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="+", choices=list(CELLS), default=list(CELLS))
    arguments, flags = parser.parse_known_args()
    console = own_console()
    cells = []
    for name in arguments.cells:
        console.print(f"\n{name}: {CELLS[name] or 'no change'}", markup=False)
        config = load_config([*flags, *CELLS[name].split(), "--name", NAME], NAME)
        cells.append(_run(name, config, check_study(config), console))
        print("\n".join(_table(cells)), flush=True)


def _run(name: str, config: RunConfig, study: StudyInputs, console: Spoken) -> Cell:
    with open_bench(config, study.inputs, console) as bench:
        questions = bench.put_questions()
        collected = rounds.untrained(bench, questions).collected
        lessons = plan_lessons(bench, study.pools, collected)
        taught = teach(bench, lessons, study.knowledge)
        answered = bench.examine("what it knows now", questions, answerer=taught.model, judge=None)
        before, after = abilities(bench, collected.graded), abilities(bench, bench.grade(questions, answered))
        never = study.pools.of[Pool.NEVER_SEEN]
        columns = [
            _share(lessons.taught, after),
            _share(lessons.rehearsed, after),
            _share([q for q in never if q.id in before and before[q.id].all_correct], after),
            _share([q for q in never if q.id in before and not before[q.id].all_correct], after),
        ]
    return Cell(name=name, best_round=taught.best.number, shares=columns)


def _share(questions: Sequence[Question], labels: Mapping[str, AbilityLabel]) -> str:
    """The share of `questions` that are known by `labels`, with its interval."""
    found = [q for q in questions if q.id in labels]
    if not found:
        return "none"
    known = np.array([labels[q.id].all_correct for q in found], dtype=np.float64)
    low, high = mean_interval(known, np.array([q.group for q in found])) or (np.nan, np.nan)
    return f"{known.mean():.1%} ({low:.1%} to {high:.1%}) of {len(found)}"


def _table(cells: Sequence[Cell]) -> list[str]:
    """The cells so far as lines of Markdown."""
    lines = [
        "| teaching | round | taught: learned | rehearsed: kept | untouched: kept | untouched: learned |",
        "|---|---|---|---|---|---|",
    ]
    return [*lines, *(f"| {cell.name} | {cell.best_round} | {' | '.join(cell.shares)} |" for cell in cells)]


if __name__ == "__main__":
    main()
