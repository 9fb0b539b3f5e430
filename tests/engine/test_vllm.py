"""The real engine: its reads are transformers', its seeds are kept, and swapped weights leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from know_thyself import prompts
from know_thyself.engine.protocol import Decoding
from know_thyself.types import Finish, LabelMode, ModelRef, Question
from tests.engine.reading import WORDS, judge_chats, transformers_read

if TYPE_CHECKING:
    from know_thyself.engine.vllm import VllmEngine

DECODING = Decoding(num_trials=5, temperature=0.7, top_p=1.0, max_tokens=8)


@pytest.mark.parametrize("mode", LabelMode)
def test_a_read_is_transformers_read(mode: LabelMode, engine: VllmEngine, small_world: Path, questions: list[Question]) -> None:
    engine.use(ModelRef(name=str(small_world / "model")))
    words = list(prompts.VERDICT_WORDS[mode].values())
    read = engine.judge(judge_chats(questions, mode), words)
    assert read.shape == (len(questions), len(words))
    assert np.abs(read - transformers_read(small_world / "model", None, questions, mode)).max() < 1e-3


def test_swapping_judges_leaves_the_base_as_it_was(
    engine: VllmEngine, small_world: Path, merged: Path, adapter: Path, questions: list[Question]
) -> None:
    base = ModelRef(name=str(small_world / "model"))
    engine.use(base)
    before = engine.judge(judge_chats(questions), WORDS)
    engine.use(ModelRef(name=str(merged)))
    judged = engine.judge(judge_chats(questions), WORDS)
    engine.use(base)
    after = engine.judge(judge_chats(questions), WORDS)
    assert np.abs(judged - before).max() > 0.1, "the judge reads like the base: its weights were never used"
    assert np.abs(judged - transformers_read(small_world / "model", adapter, questions)).max() < 1e-3
    assert np.abs(after - before).max() < 1e-5


def test_a_trial_depends_on_its_seed_alone(engine: VllmEngine, small_world: Path, questions: list[Question]) -> None:
    engine.use(ModelRef(name=str(small_world / "model")))
    chats, seeds = [prompts.answer_messages(question) for question in questions], list(range(100, 100 + len(questions)))
    whole = engine.sample(chats, seeds, DECODING)
    halves = engine.sample(chats[1::2], seeds[1::2], DECODING)
    trials = [(a, b) for given, again in zip(whole[1::2], halves, strict=True) for a, b in zip(given, again, strict=True)]
    assert np.mean([a == b for a, b in trials]) >= 0.995
    assert len({reply.text for reply in whole[0]}) > 1, "the trials of a question are all one: they share a seed"


def test_a_turn_that_is_gone_on_with_is_not_a_reply(engine: VllmEngine, small_world: Path) -> None:
    engine.use(ModelRef(name=str(small_world / "model")))
    opened = [prompts.wonder_messages()] * 2
    first, second = engine.go_on(opened, [1, 2], DECODING), engine.go_on(opened, [1, 2], DECODING)
    assert first == second
    assert first != engine.sample(opened, [1, 2], DECODING)
    assert all(reply.num_tokens > 0 for given in first for reply in given)


def test_many_seeded_requests_at_once_do_not_crash_the_engine(
    engine: VllmEngine, small_world: Path, questions: list[Question]
) -> None:
    engine.use(ModelRef(name=str(small_world / "model")))
    chats = [prompts.answer_messages(questions[i % len(questions)]) for i in range(2000)]
    replies = engine.sample(chats, list(range(2000)), Decoding(num_trials=5, temperature=0.7, top_p=1.0, max_tokens=2))
    assert {len(given) for given in replies} == {5}


def test_a_chat_too_long_is_an_error_of_its_row_alone(engine: VllmEngine, small_world: Path, questions: list[Question]) -> None:
    engine.use(ModelRef(name=str(small_world / "model")))
    long = Question(id="long", text="word " * 500, answers=("x",))
    replies = engine.sample([prompts.answer_messages(q) for q in (questions[0], long)], [1, 2], DECODING)
    assert [reply.finish is Finish.ERROR for reply in replies[1]] == [True] * 5
    assert all(reply.finish is not Finish.ERROR for reply in replies[0])
    read = engine.judge(judge_chats([long, questions[0]]), WORDS)
    assert np.isnan(read[0]).all()
    assert np.isfinite(read[1]).all()
