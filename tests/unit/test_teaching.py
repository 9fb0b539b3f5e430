"""What a study teaches and what it rehearses, by what the model answered before; no model is there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from types import SimpleNamespace
from typing import cast

import pyarrow as pa
import pytest

from know_thyself.config import RunConfig, StudyConfig
from know_thyself.data.identity import near_duplicate_key
from know_thyself.data.pools import HELD_OUT, Pools
from know_thyself.data.splits import Questions
from know_thyself.errors import ConfigError
from know_thyself.pipelines.bench import Bench, Result
from know_thyself.pipelines.rounds import Collected
from know_thyself.pipelines.teaching import Lessons, Round, plan_lessons
from know_thyself.types import Finish, Pool, Question, Split

TRIALS = 5
SPLITS = {"taught": Split.TRAIN, "held": HELD_OUT, "other": Split.TRAIN, "dev": Split.DEV, "val": Split.VALIDATION}
PARTS = {Pool.JUDGED_TAUGHT: "taught", Pool.TAUGHT_HELD_OUT: "held", Pool.JUDGED_NOT_TAUGHT: "dev", Pool.NEVER_SEEN: "val"}
QUESTIONS = tuple(
    Question(id=f"{part}-{i}", text=f"What is {part} thing {i}?", answers=("x",), group=f"{part}-{i}", split=split)
    for part, split in SPLITS.items()
    for i in range(2)
)
"""Two of each part: the model knows the second, and not the first."""
POOLS = Pools(
    questions=Questions(questions=QUESTIONS, dropped={}),
    of={pool: tuple(q for q in QUESTIONS if q.id.startswith(part)) for pool, part in PARTS.items()},
)
ASKED = {
    "taught": "Thing 0: what is taught?",
    "taught and known": "What is held thing 1?",
    "another": "What is other thing 1?",
    "dev": "What is dev thing 1?",
    "validation": "what is the val thing 1",
    "of its own": "Who are you?",
    "nothing": "",
    "no answer": "Why?",
}


def result(rows: Sequence[Mapping[str, object]]) -> Result:
    table = pa.Table.from_pylist(list(rows))
    return cast(Result, SimpleNamespace(folder=SimpleNamespace(read=lambda: table)))


def collected(right: Mapping[str, int], finish: Mapping[str, Finish], ungraded: Collection[str] = ()) -> Collected:
    """Five trials of each question, so many of them right, that ended so; those of `ungraded` could not be graded."""
    trials = [
        {"text": f" reply {i} ", "finish": str(Finish.LENGTH if i else Finish.STOP)} for i in range(TRIALS)
    ]  # of one that was cut, only the first came to its end
    whole = [{**trial, "finish": str(Finish.STOP)} for trial in trials]
    sampled = [{"id": q.id, "trials": trials if finish.get(q.id) is Finish.LENGTH else whole} for q in QUESTIONS]
    grades = [
        {"id": q.id, "correct": [None if q.id in ungraded else i < right[q.id] for i in range(TRIALS)]} for q in QUESTIONS
    ]
    return Collected(sampled=result(sampled), graded=result(grades))


def plan(right: Mapping[str, int], finish: Mapping[str, Finish] | None = None, ungraded: Collection[str] = ()) -> Lessons:
    asked = [
        {"id": f"w{n}", "question": text, "reply": "" if name == "no answer" else "z"}
        for n, (name, text) in enumerate(ASKED.items())
    ]
    study = StudyConfig(rehearsal=9, doubts=9, wondered=4, passes=1)
    bench = cast(Bench, SimpleNamespace(config=RunConfig(study=study), wonder=lambda count: result(asked)))
    return plan_lessons(bench, POOLS, collected(right, finish or {}, ungraded))


KNOWS_EVERY_SECOND = {q.id: TRIALS * int(q.id[-1]) for q in QUESTIONS}


def test_what_it_does_not_know_is_taught_and_no_part_that_is_left_alone_is_rehearsed() -> None:
    lessons = plan(KNOWS_EVERY_SECOND)
    assert {q.id for q in lessons.taught} == {"taught-0", "held-0"}
    assert {q.id for q in lessons.rehearsed} == {"taught-1", "held-1", "other-1"}
    assert {q.id for q in lessons.doubted} == {"other-0"}
    assert {q.id for q in lessons.guarded} == {"dev-1"}


def test_it_rehearses_no_question_of_its_own_that_is_taught_or_left_alone() -> None:
    shown = [row["text"] for row in plan(KNOWS_EVERY_SECOND).wondered]
    assert shown == [ASKED["taught and known"], ASKED["another"], ASKED["of its own"]]
    others = {near_duplicate_key(q.text) for q in QUESTIONS if q.id.startswith(("dev", "val"))}
    assert not others & {near_duplicate_key(text) for text in shown}


def test_only_replies_that_came_to_an_end_are_rehearsed() -> None:
    lessons = plan(KNOWS_EVERY_SECOND, {"other-1": Finish.LENGTH})
    assert lessons.replies["other-1"] == ["reply 0"]
    assert lessons.replies["other-0"] == [f"reply {i}" for i in range(TRIALS)]


def test_what_could_not_be_graded_is_neither_known_nor_unknown() -> None:
    lessons = plan(KNOWS_EVERY_SECOND, ungraded=["taught-0", "other-0", "other-1"])
    assert {q.id for q in lessons.taught} == {"held-0"}
    assert {q.id for q in lessons.rehearsed} == {"taught-1", "held-1"}
    assert lessons.doubted == ()


def test_there_must_be_something_to_teach() -> None:
    with pytest.raises(ConfigError, match="the model knows all 4 facts that could be taught: give questions it cannot answer"):
        plan(dict.fromkeys(KNOWS_EVERY_SECOND, TRIALS))
    with pytest.raises(ConfigError, match="none of the 4 facts that could be taught has answers that can be graded"):
        plan(KNOWS_EVERY_SECOND, ungraded=KNOWS_EVERY_SECOND)


def test_a_round_of_which_nothing_is_known_is_worth_nothing() -> None:
    trained = result([])
    assert Round(number=1, trained=trained, learned=None, rehearsed=0.5, kept=None).worth == 0
    assert Round(number=1, trained=trained, learned=0.5, rehearsed=None, kept=1.0).worth == 0.75
