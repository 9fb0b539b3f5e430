"""`skip_collect`, `start_epoch` and `phase`: what stands is used, and nothing that does not is begun."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import ValidationError

from know_thyself.compute.tables import write_part
from know_thyself.config import RunConfig, TrainConfig
from know_thyself.errors import ConfigError
from know_thyself.experiment import Experiment, StageFolder
from know_thyself.pipelines.guards import check_begun, check_may_run, check_phase


@pytest.fixture
def folder(tmp_path: Path) -> StageFolder:
    return Experiment(tmp_path / "mine", attempt=1).stage("examine", {})


@pytest.mark.parametrize("epoch", [None, 0, 1, 3])
def test_answers_are_not_asked_for_against_the_users_word(folder: StageFolder, epoch: int | None) -> None:
    settings = RunConfig(skip_collect=True)
    with pytest.raises(ConfigError, match=r"experiment mine holds no answers .*examine-\w+ is not done.*leave --skip-collect"):
        check_may_run(settings, folder, epoch=epoch, samples=True)
    check_may_run(settings, folder, epoch=epoch, samples=False)
    check_may_run(RunConfig(), folder, epoch=epoch, samples=True)


@pytest.mark.parametrize(
    ("start", "epoch", "may"),
    [(1, 0, True), (1, 1, True), (2, 0, False), (2, 1, False), (3, 2, False), (3, 3, True), (3, 4, True)],
)
def test_an_epoch_before_the_first_must_stand(folder: StageFolder, start: int, epoch: int, may: bool) -> None:
    settings = RunConfig(start_epoch=start)
    if may:
        check_may_run(settings, folder, epoch=epoch, samples=True)
    else:
        with pytest.raises(ConfigError, match=rf"start-epoch={start}: epoch {epoch} of experiment mine does not stand"):
            check_may_run(settings, folder, epoch=epoch, samples=False)


def test_the_first_epoch_may_be_the_one_after_the_last_that_stands() -> None:
    train = TrainConfig(epochs=3)
    assert RunConfig(start_epoch=4, train=train).start_epoch == 4
    with pytest.raises(ValidationError, match=r"start-epoch=5 comes after the last of train.epochs=3"):
        RunConfig(start_epoch=5, train=train)


@pytest.mark.parametrize(("asked", "phase", "may"), [(None, 1, True), (2, 2, True), (2, 1, False), (3, 2, False), (3, 3, True)])
def test_a_phase_begins_nothing_of_another(folder: StageFolder, asked: int | None, phase: int, may: bool) -> None:
    settings = RunConfig(phase=asked)
    if may:
        check_phase(settings, folder, phase)
    else:
        with pytest.raises(ConfigError, match=rf"phase={asked} goes on from what phase {phase} makes.*--phase {phase} first"):
            check_phase(settings, folder, phase)


def test_a_later_phase_of_nothing_is_refused(tmp_path: Path) -> None:
    settings = RunConfig(phase=2, name="mine", experiments_root=tmp_path)
    with pytest.raises(ConfigError, match=r"phase=2 goes on from what phase 1 makes, and experiment mine holds nothing of it"):
        check_begun(settings)
    check_begun(RunConfig(phase=1, name="mine", experiments_root=tmp_path))
    check_begun(RunConfig(name="mine", experiments_root=tmp_path))
    questions = Experiment(tmp_path / "mine", attempt=1).stage("questions", {})
    write_part(questions, pa.table({"id": ["a"]}))
    questions.commit_table(num_in=1, num_dropped={}, began=0.0)
    check_begun(settings)
