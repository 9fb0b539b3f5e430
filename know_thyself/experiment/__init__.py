"""The experiment folder: the only state there is.

    experiments/<name>/
      config.json               the resolved settings
      stages/<stage>-<digest>/  one folder per stage and settings: parts, then `_DONE.json`, written last
      epochs.json               which stages belong to which epoch
      used.json                 tokens and time of devices, all attempts together, and what that cost
      summary.json report.html judge/
      phase1_judgment/          of a study: the same of its first phase, before anything was taught
      study.json study.html     of a study: both judges, and what was learned and lost between them
      logs/attempt_<n>/         what each launch said

Experiments lie in a folder, or in an object store of which each machine keeps a copy: see `know_thyself.experiment.place`.

A stage's folder is named by what decides its content (its settings and its parents' content), so stale results cannot look
fresh. A stage counts only if its marker verifies; committed rows are never replaced.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from know_thyself.config import LATEST, NAME_PATTERN, EngineConfig, RunConfig
from know_thyself.digests import SHORT, digest_file, digest_json
from know_thyself.errors import ConfigError, StoreError
from know_thyself.experiment.growing import flush
from know_thyself.experiment.place import address, forget, locate, names_of_folders, pull, push
from know_thyself.experiment.stage import MARKER, StageFolder, versions
from know_thyself.experiment.usage import USED
from know_thyself.experiment.writer import only_writer
from know_thyself.experiment.writing import storing, write_whole
from know_thyself.types import StageDone

__all__ = [
    "MARKER",
    "SUBMITTED",
    "Experiment",
    "StageFolder",
    "experiment_name",
    "experiments_root",
    "find_experiment",
    "storing",
    "study_name",
    "versions",
    "write_experiment",
    "write_whole",
]

SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""The variable by which Ray tells a process that it is a submitted job."""
LONGEST_STEM = 18
"""With it, automatic names stay within `NAME_PATTERN`."""
NOT_RESULTS = (
    "preset name experiments_root address node_wait dry_run skip_collect start_epoch phase judge allow_stale push_to_hub "
    "examples scores labels"
)
UNNAMED_SETTINGS = {
    **dict.fromkeys(NOT_RESULTS.split(), True),
    "engine": set(EngineConfig.model_fields) - {"backend", "max_model_len"},
    "train": {
        "workers",
        "micro_batch_size",
        "zero_stage",
        "gradient_checkpointing",
        "checkpoint_every",
        "failures",
        "preemptions",
    },
    "evidence": True,
    "cost": True,
}
"""Settings that change no result, and so are no part of an experiment's automatic name."""
CONFIG = "config.json"
READ = (CONFIG, "summary.json", "epochs.json", "used.json", "study.json", "report.html", "study.html")
"""What is read of an experiment beside its stages and its judge."""
STUDY = "study"
"""The section of settings that decides a study alone, and the word for it in an automatic name."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One experiment's folder. `attempt` numbers the launches, 0 for a mere look.

    `part` is the folder below it that holds the results of a part of it; empty for those of the whole.
    """

    path: Path
    attempt: int = 0
    part: str = ""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.path.name

    @property
    def logs(self) -> Path:
        """Where this launch writes its logs."""
        return self.path / "logs" / f"attempt_{self.attempt}"

    @property
    def judge(self) -> Path:
        """The chosen judge's folder."""
        return self.path / self.part / "judge"

    @property
    def summary(self) -> Path:
        """The summary of all epochs."""
        return self.path / self.part / "summary.json"

    @property
    def epochs(self) -> Path:
        """The index of the stages of each epoch: see `know_thyself.experiment.epochs`."""
        return self.path / self.part / "epochs.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / self.part / "report.html"

    @property
    def used(self) -> Path:
        """What all attempts used: see `know_thyself.cost`."""
        return self.path / "used.json"

    @property
    def study(self) -> Path:
        """What a study found: see `know_thyself.pipelines.three_phase`."""
        return self.path / "study.json"

    @property
    def study_page(self) -> Path:
        """The HTML page of a study."""
        return self.path / "study.html"

    def stage(self, stage: str, settings: Mapping[str, Any], parents: Sequence[StageDone] = ()) -> StageFolder:
        """The folder of `stage` under `settings` (all that decides its content) on what `parents` committed."""
        config_digest = digest_json(settings)
        inputs_digest = digest_json([parent.content_digest for parent in parents])
        name = f"{stage}-{digest_json([config_digest, inputs_digest])[:SHORT]}"
        return StageFolder(stage, self.path / "stages" / name, config_digest, inputs_digest, self.attempt)


def experiment_name(config: RunConfig) -> str:
    """The name given, or `<model>_<dataset>_<mode>_<tuning>_<digest>`; no time in it, so the same command resumes."""
    return config.name or _name(config, [str(config.label_mode), config.tuning], {**UNNAMED_SETTINGS, STUDY: True})


def study_name(config: RunConfig) -> str:
    """The same for a study, `<model>_<dataset>_study_<tuning>_<digest>`: it has questions of its own, so also a folder."""
    return config.name or _name(config, [STUDY, config.tuning], UNNAMED_SETTINGS)


def _name(config: RunConfig, words: Sequence[str], unnamed: Mapping[str, Any]) -> str:
    settings = config.model_dump(mode="json", exclude=dict(unnamed))
    override = config.train.deepspeed
    if override is not None and override.is_file():
        settings["train"]["deepspeed"] = digest_file(override)
    return "_".join([_stem(config.model), _stem(config.dataset), *words, digest_json(settings)[:8]])


def _stem(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in ".-") else "-" for c in Path(name).name).strip(".-")
    return kept[:LONGEST_STEM].strip(".-") or "unnamed"


def experiments_root(config: RunConfig) -> Path:
    """The folder of experiments, absolute; of those in an object store its copy on this machine: see `place`.

    Raises `ConfigError` for a relative one inside a submitted Ray job, `StoreError` for a bucket that is out of reach.
    """
    told = config.experiments_root
    try:
        root = locate(told) if isinstance(told, str) else told.expanduser()
    except RuntimeError as error:
        raise ConfigError(f"experiments-root={config.experiments_root} is no user's folder: give an absolute path") from error
    if not root.is_absolute() and SUBMITTED in os.environ:
        raise ConfigError(
            f"experiments-root={root} is relative, but a submitted job runs in a temporary copy of its folder: "
            "give an absolute path on storage that outlives the job"
        )
    return root.absolute()


@contextmanager
def write_experiment(config: RunConfig, tell: Callable[[str], object] = print) -> Iterator[Experiment]:
    """Open the experiment of `config` for writing: lock it, number the attempt, record the settings.

    `tell` is told what has to be waited for. Raises `StoreError` when another process writes it or it cannot be written.
    """
    path = experiments_root(config) / experiment_name(config)
    with only_writer(path, tell):
        forget(path)
        experiment = Experiment(path, 1 + _last_attempt(pull(path / "logs", f"*/{CONFIG}")))
        with storing(experiment.logs):
            experiment.logs.mkdir(parents=True)
        settings = json.dumps(config.model_dump(mode="json"), indent=2)
        write_whole(experiment.logs / CONFIG, settings)
        write_whole(path / CONFIG, settings)
        write_whole(path.parent / LATEST, path.name + "\n")
        try:
            yield experiment
        finally:
            flush()
            push(path, "logs/*/*", f"stages/*/{USED}/*")


def _last_attempt(logs: Path) -> int:
    numbers = (folder.name.removeprefix("attempt_") for folder in logs.glob("attempt_*"))
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def find_experiment(root: Path, name: str) -> Experiment:
    """The experiment `name` under `root` for reading; `latest` is the last one started. Raises `StoreError`."""
    chosen = name
    if name == LATEST:
        latest = pull(root, LATEST) / LATEST
        if not latest.is_file():
            raise StoreError(f"there is no experiment in {address(root)} yet: run make demo first, or python -m jobs.judgment")
        chosen = latest.read_text().strip()
    path = root / chosen
    if not re.fullmatch(NAME_PATTERN, chosen) or not (pull(path, *READ) / CONFIG).is_file():
        names = ", ".join(other for other in names_of_folders(root) if (pull(root / other, CONFIG) / CONFIG).is_file())
        raise StoreError(f"there is no experiment {chosen!r} in {address(root)}: choose one of {names or '(none yet)'}")
    return Experiment(path)
