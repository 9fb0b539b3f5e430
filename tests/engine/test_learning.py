"""Training that does not depend on how many workers it has, nor on being undisturbed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from know_thyself.config import TrainConfig
from know_thyself.learning.lesson import Lesson
from know_thyself.types import Question
from tests.engine.classroom import (
    Classroom,
    curve_distance,
    distance,
    learned,
    lesson_in,
    losses,
    take_checkpoint,
    teach_that_all_can,
)
from tests.engine.reading import transformers_read

CURVES, RESUMED = 1e-4, 1e-6
RATE = {"lora": 5e-3, "full": 5e-4}
STEPS = 6


def settings(tuning: str, **changes: object) -> TrainConfig:
    """22 examples in batches of 8, twice over, are 6 steps with a short batch in each pass."""
    fields = {"batch_size": 8, "micro_batch_size": 2, "passes": 2, "epochs": 2, "checkpoint_every": 2, "zero_stage": 2}
    return TrainConfig.model_validate({**fields, "learning_rate": RATE[tuning], **changes})


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    room = Classroom(1, tmp_path_factory.mktemp("alone"))
    yield room
    room.close()


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Classroom]:
    room = Classroom(2, tmp_path_factory.mktemp("pair"))
    yield room
    room.close()


class Bench:
    """Lessons about the same questions, each in a folder of its own."""

    def __init__(self, world: Path, questions: list[Question], scratch: Path) -> None:
        self.world, self.questions, self.scratch = world, questions, scratch

    def lesson(self, name: str, config: TrainConfig, **changes: object) -> Lesson:
        return lesson_in(self.scratch / name, self.world / "model", self.questions, config, **changes)

    def teach(self, room: Classroom, name: str, tuning: str, **changes: object) -> Lesson:
        """The lesson `name`, taught."""
        lesson = self.lesson(name, settings(tuning, workers=room.workers, **changes), tuning=tuning)
        room.teach(lesson)
        assert len(losses(self.scratch / name)) == STEPS
        return lesson

    def resume(self, room: Classroom, name: str, after: Lesson) -> Lesson:
        """The lesson `after`, gone on from its checkpoint after two steps, by the workers of `room`."""
        config = after.config.model_copy(update={"workers": room.workers})
        lesson = self.lesson(name, config, tuning=after.tuning)
        take_checkpoint(Path(after.folder), 2, Path(lesson.folder))
        room.teach(lesson)
        assert len(losses(Path(lesson.folder))) == STEPS - 2
        return lesson


@pytest.fixture
def bench(small_world: Path, questions: list[Question], tmp_path: Path) -> Bench:
    return Bench(small_world, questions[:22], tmp_path)


def check(bench: Bench, alone: Classroom, pair: Classroom, tuning: str, **changes: object) -> None:
    """One worker and two give the same losses; a resumed run, on as many workers or on others, what an undisturbed one does."""
    one, two = bench.teach(alone, "one", tuning, **changes), bench.teach(pair, "two", tuning, **changes)
    curve = losses(Path(one.folder))
    assert max(curve) - min(curve) > 1e-2, "nothing was learned"
    workers = curve_distance(curve, losses(Path(two.folder)))
    again = bench.resume(pair, "again", two)
    other = bench.resume(pair, "other", one)
    resumed = distance(learned(two), learned(again))
    moved = curve_distance(curve[2:], losses(Path(other.folder)))
    print(f"\n{tuning} {changes}: 1 against 2 workers {workers:.1e}, resumed {resumed:.1e}, resumed by others {moved:.1e}")
    assert workers < CURVES
    assert moved < CURVES
    assert resumed < RESUMED
    assert curve_distance(losses(Path(two.folder))[2:], losses(Path(again.folder))) < RESUMED


def test_lora_by_zero_2_is_the_same_on_two_workers_and_after_a_kill(bench: Bench, alone: Classroom, pair: Classroom) -> None:
    check(bench, alone, pair, "lora")


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_matrix(bench: Bench, alone: Classroom, pair: Classroom, tuning: str, zero_stage: int) -> None:
    check(bench, alone, pair, tuning, zero_stage=zero_stage)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [2, 3])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_everything_that_saves_memory_changes_nothing(
    bench: Bench, alone: Classroom, pair: Classroom, tuning: str, zero_stage: int
) -> None:
    check(bench, alone, pair, tuning, zero_stage=zero_stage, gradient_checkpointing=True, length_pool=2)
    plain = bench.teach(alone, "plain", tuning, zero_stage=zero_stage, length_pool=2)
    assert curve_distance(losses(Path(plain.folder)), losses(bench.scratch / "one")) < 1e-5


@pytest.mark.slow
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_the_prototypes_loss_as_well(bench: Bench, alone: Classroom, pair: Classroom, tuning: str) -> None:
    check(bench, alone, pair, tuning, loss="sequence", target="hard", decay="cosine")


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1, 2, 3])
def test_bf16_keeps_its_float32_truth_across_a_kill(bench: Bench, pair: Classroom, zero_stage: int) -> None:
    whole = bench.teach(pair, "whole", "full", zero_stage=zero_stage, precision="bf16")
    again = bench.resume(pair, "again", whole)
    assert distance(learned(whole), learned(again)) < RESUMED


def test_dropout_is_resumed_exactly(bench: Bench, alone: Classroom) -> None:
    whole = bench.teach(alone, "whole", "lora", lora={"dropout": 0.3})
    again = bench.resume(alone, "again", whole)
    plain = bench.teach(alone, "plain", "lora")
    assert distance(learned(whole), learned(again)) < RESUMED
    assert distance(learned(whole), learned(plain)) > 1e-3


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_an_epoch_goes_on_from_the_last_as_if_never_stopped(bench: Bench, alone: Classroom, tuning: str) -> None:
    config = settings(tuning, passes=1)
    whole = [bench.lesson(f"whole-{epoch}", config, tuning=tuning, epoch=epoch) for epoch in (1, 2)]
    alone.teach(*whole)
    first = bench.lesson("first", config, tuning=tuning)
    alone.teach(first)
    second = bench.lesson("second", config, tuning=tuning, epoch=2, parent=first.folder)
    alone.teach(second)
    assert distance(learned(whole[1]), learned(second)) < RESUMED
    assert distance(learned(first), learned(second)) > 1e-4


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_was_learned_loads_as_its_users_load_it(bench: Bench, pair: Classroom, tuning: str) -> None:
    """Transformers and PEFT read from the folder what was taught: that all can be answered."""
    lesson = bench.lesson("one", settings(tuning, workers=pair.workers, zero_stage=3), tuning=tuning)
    teach_that_all_can(lesson)
    pair.teach(lesson)
    folder, base = Path(lesson.folder), bench.world / "model"
    before = transformers_read(base, None, bench.questions)
    if tuning == "lora":
        after = transformers_read(base, folder / "adapter", bench.questions)
    else:
        after = transformers_read(folder / "model", None, bench.questions)
    shares = [read[:, 0] - np.logaddexp(*read.T) for read in (before, after)]
    assert (shares[1] - shares[0]).min() > 0.1
