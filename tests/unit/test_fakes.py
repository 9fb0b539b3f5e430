"""The fake judge: what it says follows what the fake knows, in two words and in three."""

from __future__ import annotations

import numpy as np
import pytest

from know_thyself.engine.protocol import EngineSpec
from know_thyself.prompts import VERDICT_WORDS, judge_messages
from know_thyself.testing import FakeEngine, knows
from know_thyself.types import LabelMode, PromptStyle, Question

QUESTIONS = [Question(id=str(i), text=f"What is thing {i}?", answers=()) for i in range(600)]


def claims(mode: LabelMode) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    engine = FakeEngine(EngineSpec(base="fake", device="cpu", mode="swap", max_model_len=256))
    chats = [judge_messages(question, PromptStyle.SYSTEM, mode) for question in QUESTIONS]
    return np.exp(engine.judge(chats, list(VERDICT_WORDS[mode].values())))


@pytest.mark.parametrize("mode", LabelMode)
def test_shares_of_the_words_sum_to_one(mode: LabelMode) -> None:
    assert claims(mode).sum(axis=1) == pytest.approx(np.ones(len(QUESTIONS)))


def test_three_words_follow_what_is_known() -> None:
    known, said = np.array([knows(question.text) for question in QUESTIONS]), claims(LabelMode.UNCERTAINTY)
    for index, part in enumerate((known == 1, (known > 0.35) & (known < 0.65), known == 0)):
        assert said[part].mean(axis=0).argmax() == index
    assert set(said.argmax(axis=1)) == {0, 1, 2}
