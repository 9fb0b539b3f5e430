"""Splits: they share nothing, every row is accounted for, and the same seed cuts alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from know_thyself.config import DataConfig
from know_thyself.data.identity import content_key, near_duplicate_key
from know_thyself.data.splits import Questions, split_questions
from know_thyself.errors import DataError
from know_thyself.types import Question, Split

SMALL = DataConfig(least=1, overlap="drop")


def ask(name: str, text: str = "", group: str = "", answers: tuple[str, ...] = ("a",), split: str = "train") -> Question:
    return Question(id=name, text=text or f"Who is {name}?", answers=answers, group=group, split=split)


def many(prefix: str, count: int, *, per_group: int = 1, split: str = "train") -> list[Question]:
    return [ask(f"{prefix}{i}", group=f"{prefix} group {i // per_group}", split=split) for i in range(count)]


def cut(train: Sequence[Question], validation: Sequence[Question] = (), config: DataConfig = SMALL, seed: int = 0) -> Questions:
    held = validation or [ask("the validation one", split="validation")]
    return split_questions(train, held, config, seed)


def ids(questions: Sequence[Question]) -> list[str]:
    return sorted(question.id for question in questions)


def test_equal_content_is_merged_with_all_answers_and_counted() -> None:
    twice = [ask("x", "Who  is it?", answers=("a", "b")), ask("y", "Who is it? ", answers=("b", "c"))]
    questions = cut([*twice, *many("t", 20)])
    assert questions.dropped == {"merged duplicate": 1}
    (merged,) = [question for question in questions.questions if question.id in "xy"]
    assert (merged.id, merged.answers) == ("x", ("a", "b", "c"))


def test_the_same_text_under_another_context_is_another_question_of_the_same_group() -> None:
    paris, rome = (Question(id=c, text="Where is it?", answers=("a",), context=c) for c in ("Paris", "Rome"))
    questions = cut([paris, rome, *many("t", 20)])
    assert not questions.dropped
    found = [question for question in questions.questions if question.context]
    assert len(found) == 2
    assert len({question.group for question in found}) == len({question.split for question in found}) == 1


@pytest.mark.parametrize("first", ["train", "validation"])
def test_an_id_that_stands_for_two_questions_is_refused(first: str) -> None:
    other = ask("t3", "Another text?")
    train, validation = many("t", 20), many("v", 3)
    with pytest.raises(DataError, match=r"id 't3' stands for two questions, one of them 'Another text\?': make ids unique"):
        cut([*train, other] if first == "train" else train, validation if first == "train" else [*validation, other])


def test_an_id_that_stands_for_two_questions_is_refused_even_if_one_would_be_merged_away() -> None:
    with pytest.raises(DataError, match="'b' stands for two questions"):
        cut([ask("a", "First?"), ask("b", "Second?"), ask("b", "First?"), *many("t", 20)])


LEAKS = {
    "same text": ask("leak", "Who wrote Emma?"),
    "case and punctuation": ask("leak", "who wrote EMMA"),
    "articles and white space": ask("leak", " Who wrote the  Emma ?"),
    "word order": ask("leak", "Emma: who wrote?"),
    "accents and width": ask("leak", "Who wrote Émma？"),
    "same group": ask("leak", "Something else?", group="novels"),
    "same id and text": ask("v", "Who wrote Emma?"),
    "by way of a group": ask("leak", "Entirely different?", group="bridge"),
}
BRIDGE = ask("bridge", "Emma, who wrote?", group="bridge")
HELD = ask("v", "Who wrote Emma?", group="novels", split="validation")


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_every_planted_leak_is_dropped_and_counted_or_refused(leak: Question) -> None:
    planted = [leak, BRIDGE] if leak.group == "bridge" else [leak]
    train = [*many("t", 20), *planted]
    questions = cut(train, [HELD])
    assert questions.dropped == {"in validation too": len(planted)}
    assert ids(questions.of(Split.VALIDATION)) == ["v"]
    assert not {question.id for question in planted} & {q.id for q in questions.questions if q.split != Split.VALIDATION}
    with pytest.raises(DataError, match=rf"{len(planted)} training questions are in validation too.*--data\.overlap drop"):
        cut(train, [HELD], SMALL.model_copy(update={"overlap": "refuse"}))


def test_dev_and_calibration_are_cut_by_group_to_their_sizes() -> None:
    questions = cut(many("t", 300, per_group=3), config=DataConfig(dev=0.1, calibration=0.2, least=10))
    assert [len(questions.of(split)) for split in (Split.TRAIN, Split.DEV, Split.CALIBRATION)] == [210, 30, 60]
    questions = cut(many("t", 300, per_group=3), config=DataConfig(dev=0.1, calibration=0.1, least=40))
    assert [len(questions.of(split)) for split in (Split.TRAIN, Split.DEV, Split.CALIBRATION)] == [216, 42, 42]


def test_the_draw_is_counted_and_depends_on_the_seed_alone() -> None:
    config = SMALL.model_copy(update={"num_train": 40, "num_validation": 5})
    train, validation = many("t", 100), many("v", 10, split="validation")
    first, again, other = (cut(train, validation, config, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.dropped == {"not drawn": 65}
    assert len(first.of(Split.VALIDATION)) == 5
    assert ids(first.questions) != ids(other.questions)
    assert ids(first.of(Split.TRAIN)) != sorted(f"t{i}" for i in range(len(first.of(Split.TRAIN))))


def test_a_larger_size_than_there_are_takes_all() -> None:
    config = SMALL.model_copy(update={"num_train": 1000})
    assert len(cut(many("t", 20), config=config).questions) == 21


@pytest.mark.parametrize("train", [[], many("t", 2), many("t", 50, per_group=50)])
def test_too_few_to_train_on_are_refused(train: list[Question]) -> None:
    with pytest.raises(DataError, match=r"leave none to train on .*--data\.least \(now 1\)"):
        cut(train)


WORDS = st.lists(st.sampled_from("red blue green owl fox ape".split()), min_size=1, max_size=3).map(" ".join)
GROUPS = st.sampled_from(["", "", "", "g1", "g2", "g3"])
ROWS = st.lists(st.tuples(WORDS, GROUPS, st.sampled_from([True, True, False])), min_size=12, max_size=40)


@given(rows=ROWS, seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_no_group_is_in_two_splits_and_no_row_is_lost(rows: list[tuple[str, str, bool]], seed: int) -> None:
    questions = [
        Question(
            id=content_key(text, None), text=text, answers=(str(i),), group=group, split="train" if train else "validation"
        )
        for i, (text, group, train) in enumerate(rows)
    ]
    train = [question for question in questions if question.split == "train"]
    validation = [question for question in questions if question.split == "validation"]
    try:
        found = split_questions(train, validation, SMALL, seed)
    except DataError:
        reject()
    assert len(rows) == len(found.questions) + sum(found.dropped.values())
    assert len({question.id for question in found.questions}) == len(found.questions)
    group_given = {question.id: question.group for question in reversed(questions)}
    splits: defaultdict[str, set[str]] = defaultdict(set)
    for question in found.questions:
        for bond in (question.group, near_duplicate_key(question.text), group_given[question.id] or question.group):
            splits[bond].add(question.split)
    assert all(len(shared) == 1 for shared in splits.values())


@given(st.text(min_size=1))
@settings(max_examples=30, deadline=None)
def test_near_duplicate_keys_exist_for_any_text_and_ignore_case(text: str) -> None:
    assert near_duplicate_key(text) == near_duplicate_key(f" {text} ")
    assert near_duplicate_key(text) or not text.strip()
