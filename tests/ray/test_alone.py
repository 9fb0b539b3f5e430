"""Each stage alone, in one experiment: the whole pipeline finds them done, and a judge is never asked about a foreign model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from know_thyself.config import RunConfig, load_config
from know_thyself.errors import JudgeError
from know_thyself.experiment import experiments_root
from know_thyself.pipelines import adaptive, alone
from know_thyself.pipelines.bench import open_bench
from know_thyself.pipelines.inputs import check_inputs
from know_thyself.pipelines.judges import find_judge
from know_thyself.progress import Spoken
from know_thyself.world.build import build_world
from tests.conftest import SMALL_WORLD, write_fake_questions
from tests.ray.runs import Run


@pytest.fixture(scope="module")
def flags(tmp_path_factory: pytest.TempPathFactory, small_world: Path) -> list[str]:
    root = tmp_path_factory.mktemp("alone")
    questions = write_fake_questions(root / "questions", train=240, validation=80)
    return Run(root, small_world / "model", questions, "--train.epochs", "1").flags


def config_of(flags: list[str], *more: str) -> RunConfig:
    return load_config([*flags, *more], "test")


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Spoken]:
    with (tmp_path / "said.txt").open("w") as file:
        yield Spoken(file=file, width=200)


def done(experiment: Path) -> dict[str, int]:
    return {marker.parent.name: marker.stat().st_mtime_ns for marker in experiment.glob("stages/*/_DONE.json")}


def test_stages_run_alone_and_the_whole_pipeline_goes_on_from_them(flags: list[str], console: Spoken) -> None:
    config = config_of(flags)
    inputs = check_inputs(config)
    with open_bench(config, inputs, console) as bench:
        experiment = bench.experiment
        assert alone.sample(bench).name.startswith("examine-")
        assert alone.label(bench).name.startswith("grade-")
        assert alone.train(bench).name.startswith("train-")
        before = done(experiment.path)
        assert {name.partition("-")[0] for name in before} == {"questions", "examine", "grade", "train"}
    with pytest.raises(JudgeError, match="give the judge folder of a finished experiment"):
        find_judge(config, inputs)
    adaptive.run(config, inputs, console)
    assert before.items() <= done(experiment.path).items()

    summary = json.loads(experiment.summary.read_text())
    judge = find_judge(config, inputs)
    with open_bench(config, inputs, console) as bench:
        assert (alone.merge(bench, judge) / "config.json").is_file() == (summary["best_epoch"] > 0)
        judged = alone.judge(bench, judge)
        found = json.loads(alone.evaluate(bench, judge).read_text())
    assert json.loads((judged / alone.JUDGED_BY).read_text())["stale"] is False
    best = next(row for row in summary["epochs"] if row["epoch"] == summary["best_epoch"])
    assert found["splits"]["validation"] == best["validation"]


@pytest.mark.slow
def test_the_second_epoch_trained_alone_learns_from_the_judgments_of_the_first(flags: list[str], console: Spoken) -> None:
    two = (*flags, "--train.epochs", "2", "--name", "two")
    for more in ([], ["--start-epoch", "2"]):
        config = config_of([*two, *more])
        with open_bench(config, check_inputs(config), console) as bench:
            alone.train(bench)
    assert len(list(bench.experiment.path.glob("stages/train-*/_DONE.json"))) == 2
    assert len(list(bench.experiment.path.glob("stages/examine-*/_DONE.json"))) == 2, "the first epoch's judge has judged"


def test_a_judge_of_another_base_judges_only_when_told_to_and_is_marked(
    flags: list[str], console: Spoken, tmp_path: Path
) -> None:
    own = config_of(flags)
    build_world(SMALL_WORLD.model_copy(update={"seed": 8}), tmp_path / "other")
    judge = experiments_root(own) / "run" / "judge"
    foreign = ("--model", str(tmp_path / "other" / "model"), "--name", "foreign", "--judge", str(judge))
    config = config_of(flags, *foreign)
    inputs = check_inputs(config)
    with pytest.raises(JudgeError, match="the judge belongs to a base of digest"):
        find_judge(config, inputs)
    config = config_of(flags, *foreign, "--allow-stale")
    with open_bench(config, inputs, console) as bench:
        found = json.loads(alone.evaluate(bench, find_judge(config, inputs)).read_text())
    assert found["stale"] is True
    assert found["splits"]["validation"]["questions"] == 80
