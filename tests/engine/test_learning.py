"""Training that does not depend on how many workers it has, nor on being undisturbed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from know_thyself.prompts import VERDICT_WORDS
from know_thyself.types import LabelMode, Verdict
from tests.engine.classroom import (
    Bench,
    Classroom,
    curve_distance,
    distance,
    learned,
    losses,
    settings,
    teach_one_verdict,
)
from tests.engine.reading import transformers_read

CURVES, RESUMED = 1e-4, 1e-6


def check(bench: Bench, alone: Classroom, pair: Classroom, tuning: str, **changes: Any) -> None:
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


@pytest.mark.parametrize(
    ("tuning", "zero_stage"),
    [("lora", 2), *(pytest.param(*case, marks=pytest.mark.slow) for case in (("lora", 3), ("full", 2), ("full", 3)))],
)
def test_a_batch_that_two_cannot_halve_is_learned_alike(
    bench: Bench, alone: Classroom, pair: Classroom, tuning: str, zero_stage: int
) -> None:
    config = settings(tuning, workers="1..2", zero_stage=zero_stage, batch_size=7)
    one, two = (bench.lesson(name, config, tuning=tuning) for name in ("one", "two"))
    alone.teach(one)
    pair.teach(two)
    assert curve_distance(losses(Path(one.folder)), losses(Path(two.folder))) < CURVES


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


@pytest.mark.parametrize(
    ("tuning", "zero_stage"),
    [
        ("lora", 2),
        *(pytest.param("lora", stage, marks=pytest.mark.slow) for stage in (0, 1, 3)),
        *(pytest.param("full", stage, marks=pytest.mark.slow) for stage in (0, 1, 2, 3)),
    ],
)
def test_bf16_keeps_its_float32_truth_across_a_kill(bench: Bench, pair: Classroom, tuning: str, zero_stage: int) -> None:
    whole = bench.teach(pair, "whole", tuning, zero_stage=zero_stage, precision="bf16")
    again = bench.resume(pair, "again", whole)
    assert distance(learned(whole), learned(again)) < RESUMED


@pytest.mark.parametrize(
    ("tuning", "before", "after"),
    [
        ("lora", 2, 1),
        *(
            pytest.param(tuning, *stages, marks=pytest.mark.slow)
            for tuning in ("lora", "full")
            for stages in ((1, 0), (0, 3), (3, 2))
        ),
    ],
)
def test_a_state_is_bound_to_no_zero_stage(bench: Bench, pair: Classroom, tuning: str, before: int, after: int) -> None:
    whole = bench.teach(pair, "whole", tuning, zero_stage=before)
    again = bench.resume(pair, "again", whole, zero_stage=after)
    losses_apart = curve_distance(losses(Path(whole.folder))[2:], losses(Path(again.folder)))
    weights_apart = distance(learned(whole), learned(again))
    print(f"\n{tuning}, ZeRO-{before} to {after}: losses {losses_apart:.1e}, weights {weights_apart:.1e}")
    assert losses_apart < RESUMED
    assert weights_apart < CURVES


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


@pytest.mark.parametrize(("mode", "verdict"), [(LabelMode.BINARY, Verdict.CAN), (LabelMode.UNCERTAINTY, Verdict.UNCERTAIN)])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_what_was_learned_loads_as_its_users_load_it(
    bench: Bench, pair: Classroom, tuning: str, mode: LabelMode, verdict: Verdict
) -> None:
    """Transformers and PEFT read from the folder what was taught: one verdict on every question."""
    lesson = bench.lesson("one", settings(tuning, workers=pair.workers, zero_stage=3), mode, tuning=tuning)
    teach_one_verdict(lesson, verdict)
    pair.teach(lesson)
    folder = Path(lesson.folder)
    before = transformers_read(bench.base, None, bench.questions, mode)
    if tuning == "lora":
        after = transformers_read(bench.base, folder / "adapter", bench.questions, mode)
    else:
        after = transformers_read(folder / "model", None, bench.questions, mode)
    place = list(VERDICT_WORDS[mode]).index(verdict)
    shares = [read[:, place] - np.logaddexp.reduce(read, axis=1) for read in (before, after)]
    assert (shares[1] - shares[0]).min() > 0.1
