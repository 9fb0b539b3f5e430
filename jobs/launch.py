"""How every job starts and ends: settings from flags, one line per error, an exit code that tells."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from jobs.prototype_flags import translate
from know_thyself.compute.environment import prepare_environment
from know_thyself.config import RunConfig, load_config
from know_thyself.errors import KnowThyselfError

FAILED, INTERRUPTED = 1, 130


def launch(job: str, work: Callable[[RunConfig], None], *, study: bool = False) -> NoReturn:
    """Run `work` on the settings that the command line asks for; exit 0, 2 on bad input, 1 on failure, 130 when stopped.

    A `study` has flags of its own, and an experiment of its own.
    """
    signal.signal(signal.SIGTERM, _stop)
    prepare_environment()
    program = f"python -m jobs.{job}"
    try:
        config = load_config(translate(sys.argv[1:], study=study), program)
        from know_thyself.experiment import experiments_root, study_name
        from know_thyself.experiment.writing import minding_space

        if study:
            config = config.model_copy(update={"name": study_name(config)})
        root = experiments_root(config)  # one that cannot be used is refused before anything heavy loads
        if config.dry_run:
            from know_thyself.pipelines.dry_run import dry_run

            print(json.dumps(dry_run(config), indent=2))
        else:
            with minding_space(root):
                work(config)
    except KnowThyselfError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        print(f"error: {error}; what was committed is kept", file=sys.stderr)
        sys.exit(FAILED)
    except KeyboardInterrupt:
        again = " ".join([program, *sys.argv[1:]])
        print(f"\nstopped; what was committed is kept. To go on: {again}", file=sys.stderr)
        sys.exit(INTERRUPTED)
    sys.exit(0)


def alone(stage: str, *, asks_judge: bool = False) -> Callable[[RunConfig], None]:
    """The work of a job that does one stage alone: the function of this name in `know_thyself.pipelines.alone`.

    One that `asks_judge` is given the judge that the settings mean.
    """

    def work(config: RunConfig) -> None:
        from know_thyself.pipelines.inputs import check_inputs
        from know_thyself.pipelines.judges import find_judge

        inputs = check_inputs(config, trains=stage == "train")
        found = [find_judge(config, inputs)] if asks_judge else []
        from know_thyself.experiment.place import address
        from know_thyself.pipelines import alone
        from know_thyself.pipelines.bench import open_bench
        from know_thyself.progress import own_console

        with open_bench(config, inputs, own_console()) as bench:
            bench.console.print(f"{stage}: {address(getattr(alone, stage)(bench, *found))}")

    return work


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
