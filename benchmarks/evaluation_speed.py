"""How long does the evaluation of many judgments take, and how much memory, on two cores?

    python -m benchmarks.evaluation_speed                       138,000 judgments, as many as TriviaQA has questions
    python -m benchmarks.evaluation_speed --questions 34500 69000 138000

Everything that a report shows of one split: all numbers with 1,000 bootstrap replicates, the ceiling, calibration, thresholds,
and three baselines compared on the same draws. No two confidences are alike, the slowest case. One process per size.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np

from know_thyself.evaluation import findings
from know_thyself.evaluation.audit import Cost, Rival, compare
from know_thyself.evaluation.calibration import choose_calibration
from know_thyself.evaluation.metrics.scores import Scores, names_of
from know_thyself.evaluation.metrics.summary import summarize

CALIBRATION = 10_000


def judgments(number: int, seed: int) -> Scores:
    """Questions whose accuracies are spread as a strong model's, in groups of 1.5, and a judge that sees them through noise."""
    rng = np.random.default_rng(seed)
    truth = rng.beta(0.4, 0.4, number)
    sure = np.clip(0.8 * truth + 0.1 + rng.normal(0, 0.15, number), 0.001, 0.999)
    right = rng.binomial(5, truth)
    return Scores(
        classes=("can", "cannot"),
        group=names_of(f"g{one}" for one in rng.integers(0, max(2, number * 2 // 3), number)),
        num_correct=right,
        num_graded=np.full(number, 5),
        ability=np.where(right >= 3, 0, 1),
        verdict=np.where(sure > 0.5, 0, 1),
        probabilities=np.stack([sure, 1 - sure], axis=1),
        owed=np.stack([right / 5, 1 - right / 5], axis=1),
        forecast=sure,
        mass=np.full(number, 0.9),
    )


def evaluate(number: int, replicates: int) -> None:
    """Evaluate so many judgments, and print the seconds of each part and the largest memory of the process."""
    learned, measured = judgments(CALIBRATION, 1), judgments(number, 0)
    rng = np.random.default_rng(2)
    rivals = {f"baseline {i}": Rival(scores=measured.confidence + rng.normal(0, 0.3, number), cost=Cost()) for i in range(3)}
    work: dict[str, Callable[[], object]] = {
        "numbers and intervals": lambda: summarize(measured, 0, replicates=replicates),
        "ceiling": lambda: findings.ceiling_facts(measured),
        "calibration": lambda: choose_calibration(learned.probabilities, learned.accuracy, learned.group),
        "thresholds": lambda: findings.threshold_facts(None, learned, measured),
        "baselines": lambda: compare(measured, rivals, replicates=replicates),
    }
    began, parts = time.perf_counter(), dict[str, float]()
    for name, measure in work.items():
        started = time.perf_counter()
        measure()
        parts[name] = time.perf_counter() - started
    told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{number:,} judgments: {time.perf_counter() - began:.1f} s ({told}), at most {memory:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, nargs="+", default=[138_000])
    parser.add_argument("--replicates", type=int, default=1000)
    arguments = parser.parse_args()
    if len(arguments.questions) == 1:
        evaluate(arguments.questions[0], arguments.replicates)
        return
    for number in arguments.questions:
        command = [sys.executable, "-m", "benchmarks.evaluation_speed", "--questions", str(number)]
        subprocess.run([*command, "--replicates", str(arguments.replicates)], check=True)


if __name__ == "__main__":
    main()
