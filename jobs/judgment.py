"""Teach a model to know what it knows: `python -m jobs.judgment --preset world`."""

from __future__ import annotations

from jobs.launch import launch
from know_thyself.config import RunConfig


def work(config: RunConfig) -> None:
    """Run the adaptive pipeline."""
    from rich.console import Console

    from know_thyself.pipelines import adaptive

    adaptive.run(config, Console())


if __name__ == "__main__":
    launch("judgment", work)
