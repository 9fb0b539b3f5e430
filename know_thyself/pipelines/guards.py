"""What `skip_collect`, `start_epoch` and `phase` forbid: a run that would redo by accident what its user believes to stand.

Every stage that stands is kept without them; they only turn work that would start anew into an error.
"""

from __future__ import annotations

from know_thyself.config import RunConfig
from know_thyself.errors import ConfigError
from know_thyself.experiment import MARKER, StageFolder, experiment_name, experiments_root
from know_thyself.experiment.place import pull

FIRST = 1
"""The epoch that every run may start from, for the untrained model is measured on the way; and the phase."""


def check_may_run(config: RunConfig, folder: StageFolder, *, epoch: int | None, samples: bool) -> None:
    """Raise `ConfigError` where `config` forbids to run the stage of `folder`, which is not done.

    `epoch` is the epoch it belongs to, if any; `samples` whether it asks the model for answers.
    """
    experiment = folder.path.parent.parent.name
    if samples and config.skip_collect:
        raise ConfigError(
            f"skip-collect: experiment {experiment} holds no answers for these settings ({folder.path.name} is not done): "
            "leave --skip-collect out to ask for them, or give the settings and --name of the experiment that holds them"
        )
    if epoch is not None and epoch < config.start_epoch > FIRST:
        raise ConfigError(
            f"start-epoch={config.start_epoch}: epoch {epoch} of experiment {experiment} does not stand for these settings "
            f"({folder.path.name} is not done): jobs.judgment without --start-epoch makes it and keeps what stands"
        )


def check_begun(config: RunConfig) -> None:
    """Raise `ConfigError` where a later phase is asked for of an experiment that holds nothing of the first."""
    if (config.phase or FIRST) == FIRST:
        return
    path = experiments_root(config) / experiment_name(config)
    if not any(pull(path / "stages", f"questions-*/{MARKER}").glob(f"questions-*/{MARKER}")):
        raise ConfigError(
            f"phase={config.phase} goes on from what phase 1 makes, and experiment {path.name} holds nothing of it: run the "
            "same command with --phase 1 first, or without --phase"
        )


def check_phase(config: RunConfig, folder: StageFolder, phase: int | None) -> None:
    """Raise `ConfigError` where the stage of `folder`, which is not done, belongs to another `phase` than the one asked for."""
    if config.phase is not None and phase != config.phase:
        raise ConfigError(
            f"phase={config.phase} goes on from what phase {phase} makes, and that does not stand for these settings "
            f"({folder.path.name} is not done): run the same command with --phase {phase} first, or without --phase"
        )
