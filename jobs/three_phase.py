"""Judge, learn, judge again: `python -m jobs.three_phase --preset world`."""

from __future__ import annotations

from jobs.launch import launch
from know_thyself.config import RunConfig


def work(config: RunConfig) -> None:
    """Check the inputs, then load what is heavy and run the study."""
    from know_thyself.pipelines.study import check_study

    study = check_study(config)
    from know_thyself.pipelines import three_phase
    from know_thyself.progress import own_console

    three_phase.run(config, study, own_console())


if __name__ == "__main__":
    launch("three_phase", work, study=True)
