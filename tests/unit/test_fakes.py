"""The fake judge: what it says follows what the fake knows, in two words and in three."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from know_thyself.engine.protocol import Decoding, EngineSpec
from know_thyself.evaluation.calibration import ClassMap
from know_thyself.evaluation.evidence import Records, fit_calibration, scores_of
from know_thyself.evaluation.metrics.summary import summarize
from know_thyself.evaluation.selection import select_examples
from know_thyself.labeling import AbilityRule, TargetRule
from know_thyself.prompts import VERDICT_WORDS, answer_messages, judge_messages
from know_thyself.testing import FakeEngine, fake_answer, forgets, knows
from know_thyself.types import Finish, LabelMode, ModelRef, PromptStyle, Question

QUESTIONS = [Question(id=str(i), text=f"What is thing {i}?", answers=(), group=str(i)) for i in range(600)]


SPEC = EngineSpec(base="fake", device="cpu", mode="swap", max_model_len=256)
FIVE = Decoding(num_trials=5, temperature=0.7, top_p=1.0, max_tokens=8)


def claims(mode: LabelMode) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    engine = FakeEngine(SPEC)
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


def test_tuned_weights_forget_what_they_forget_and_answer_all_else_as_before() -> None:
    chats, seeds = [answer_messages(q) for q in QUESTIONS], list(range(len(QUESTIONS)))
    engine = FakeEngine(SPEC)
    before = engine.sample(chats, seeds, FIVE)
    engine.use(ModelRef(name="tuned"))
    after = engine.sample(chats, seeds, FIVE)
    for question, old, new in zip(QUESTIONS, before, after, strict=True):
        if forgets(question.text):
            assert fake_answer(question.text) not in [reply.text for reply in new]
        else:
            assert new == old
    lost = [question for question, old, new in zip(QUESTIONS, before, after, strict=True) if old != new]
    assert 0.03 < len(lost) / len(QUESTIONS) < 0.1, "of a tenth, the half or so that was known"
    engine.use(ModelRef(name=SPEC.base))
    assert engine.sample(chats, seeds, FIVE) == before


def test_a_chat_of_more_words_than_the_model_takes_is_neither_answered_nor_judged() -> None:
    engine = FakeEngine(SPEC)
    long = Question(id="long", text="why " * (SPEC.max_model_len + 1), answers=(), group="long")
    chats = [answer_messages(question) for question in (QUESTIONS[0], long)]
    short, refused = engine.sample(chats, [1, 2], FIVE)
    assert {reply.finish for reply in short} == {Finish.STOP}
    assert {reply.finish for reply in refused} == {Finish.ERROR}
    assert np.isfinite(engine.judge(chats, ["yes", "no"])).tolist() == [[True, True], [False, False]]


def test_tuned_weights_judge_with_less_noise() -> None:
    engine, known = FakeEngine(SPEC), [knows(question.text) for question in QUESTIONS]
    chats = [judge_messages(question, PromptStyle.SYSTEM, LabelMode.BINARY) for question in QUESTIONS]
    fits = []
    for model in (ModelRef(name=SPEC.base), ModelRef(name=SPEC.base, adapter="adapter"), ModelRef(name="tuned")):
        engine.use(model)
        fits.append(float(np.corrcoef(known, np.exp(engine.judge(chats, ["yes", "no"])[:, 0]))[0, 1]))
    assert fits[0] < 0.9 < min(fits[1:])


def test_as_many_engines_die_as_were_ordered_to_each_after_some_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order = tmp_path / "engines-to-kill"
    order.write_text("2")
    monkeypatch.setenv("KT_FAKE_KILL", str(order))
    assert [end_of_an_engine(batches=1)] == [0], "before it has answered, none dies"
    assert [end_of_an_engine(batches=3) for _ in range(4)] == [signal.SIGKILL, signal.SIGKILL, 0, 0]
    assert order.read_text() == "0"


def end_of_an_engine(batches: int) -> int:
    """How a process ends in which one engine answers so many batches."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            engine = FakeEngine(SPEC)
            for _ in range(batches):
                engine.sample([answer_messages(QUESTIONS[0])], [1], FIVE)
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(process, 0)[1]


def test_from_answers_to_scores_and_targets_of_three_verdicts() -> None:
    mode, ids = LabelMode.UNCERTAINTY, [question.id for question in QUESTIONS]
    replies = FakeEngine(SPEC).sample([answer_messages(q) for q in QUESTIONS], list(range(0, 6000, 10)), FIVE)
    right = [[reply.text == fake_answer(q.text) for reply in given] for q, given in zip(QUESTIONS, replies, strict=True)]
    graded = pa.table({"id": ids, "correct": right})
    judged = pa.table({"id": ids, "probabilities": claims(mode).tolist(), "mass": [1.0] * len(ids)})
    examined = list(Records(QUESTIONS, graded, judged, AbilityRule(), mode))
    class_map = fit_calibration(examined[:300], mode)
    assert isinstance(class_map, ClassMap)
    can, uncertain, cannot = class_map.weights
    assert can > uncertain > cannot
    summary = summarize(scores_of(examined[300:], mode, class_map), 0, replicates=100)
    assert summary["undefined"] == {}
    assert summary["macro_f1"] > summary["majority_macro_f1"]
    assert summary["brier_skill"] > 0.5
    targets = TargetRule.fit([e.label for e in examined], mode, "soft", AbilityRule())
    taught = {example.target for example in select_examples(examined, "weighted", targets)}
    assert len(taught) == 6, "one target for each number of right trials of five"
