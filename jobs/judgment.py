"""Teach a model to know what it knows: `python -m jobs.judgment --preset world`."""

from __future__ import annotations

from jobs.launch import launch
from know_thyself.config import RunConfig


def work(config: RunConfig) -> None:
    """Check the inputs, then load what is heavy and run the adaptive pipeline."""
    from know_thyself.pipelines.inputs import check_inputs

    inputs = check_inputs(config)
    from know_thyself.pipelines import adaptive
    from know_thyself.progress import own_console

    adaptive.run(config, inputs, own_console())


if __name__ == "__main__":
    launch("judgment", work)
