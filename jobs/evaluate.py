"""Measure a trained judge on questions, or any other system by two files of scores and labels.

python -m jobs.evaluate --preset world
python -m jobs.evaluate --scores scores.jsonl --labels labels.jsonl --name other-system
"""

from __future__ import annotations

from jobs.launch import alone, launch
from know_thyself.config import RunConfig


def work(config: RunConfig) -> None:
    """Evaluate the two files where they are given, else the judge that the settings mean."""
    if config.scores is None or config.labels is None:
        alone("evaluate", asks_judge=True)(config)
        return
    from know_thyself.pipelines.foreign import evaluate_files
    from know_thyself.progress import own_console

    console = own_console()
    console.print(f"evaluate: {evaluate_files(config, config.scores, config.labels, console)}")


if __name__ == "__main__":
    launch("evaluate", work)
