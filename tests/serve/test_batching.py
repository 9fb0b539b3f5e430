"""Many callers, one thread: what waits is judged together, each caller gets its own, and a full queue says so."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import pytest

from know_thyself.asking import Answer, Asked, Opinion, Refusal, Sampling
from know_thyself.errors import EngineError, JudgeError
from know_thyself.judge import JudgeCard
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from know_thyself.types import Finish
from serve import batching as queueing
from serve import local
from serve.batching import Said
from serve.errors import ServiceError
from serve.judging import BusyError
from serve.local import BatchingJudge, LocalAnswerer, batching


class Gated:
    """A judge that works only while its gate is open, and notes what it was asked in one go, and by which thread."""

    def __init__(self) -> None:
        self.card: JudgeCard = fake_card()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.failures: list[Exception] = []
        self.batches: list[list[str]] = []
        self.threads = {threading.current_thread().name}

    def judge_each(self, asked: Sequence[Asked]) -> Said:
        self.entered.set()
        assert self.gate.wait(10)
        self.threads.add(threading.current_thread().name)
        self.batches.append([one.text for one in asked])
        if self.failures:
            raise self.failures.pop()
        return FakeJudge(self.card).judge_each(asked)


def questions(*texts: str) -> list[Asked]:
    return [Asked(text=text) for text in texts]


def run(scene: Callable[[BatchingJudge[Gated], Gated], Awaitable[None]], **settings: Any) -> Gated:
    """The judge after `scene` was played with it."""
    gated: list[Gated] = []

    def start() -> Gated:
        gated.append(Gated())
        return gated[0]

    async def play(judge: BatchingJudge[Gated]) -> None:
        try:
            await scene(judge, gated[0])
        finally:
            gated[0].gate.set()

    with batching(start, **settings) as judge:
        asyncio.run(play(judge))
    return gated[0]


async def busy(judge: BatchingJudge[Gated], gated: Gated, *waiting: Sequence[str]) -> list[asyncio.Task[Said]]:
    """Calls of which the first is being judged, and those of `waiting` wait."""
    calls = [asyncio.create_task(judge.judge(questions("first")))]
    assert await asyncio.to_thread(gated.entered.wait, 10)
    calls += [asyncio.create_task(judge.judge(questions(*texts))) for texts in waiting]
    await asyncio.sleep(0)
    return calls


def said(opinions: Said) -> list[tuple[str, float]]:
    return [(one.question, one.confidence) for one in opinions if isinstance(one, Opinion)]


def test_what_waits_is_judged_together_and_everyone_gets_their_own() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        calls = await busy(judge, gated, ["a"], ["b", "c"], ["d"])
        gated.gate.set()
        for call, texts in zip(calls, (["first"], ["a"], ["b", "c"], ["d"]), strict=True):
            found = said(await call)
            assert [text for text, _ in found] == texts
            assert [sure for _, sure in found] == pytest.approx([fake_confidence(Asked(text=text)) for text in texts])

    gated = run(scene)
    assert gated.batches == [["first"], ["a", "b", "c", "d"]]
    assert len(gated.threads) == 1
    assert threading.current_thread().name not in gated.threads


def test_a_batch_holds_whole_requests_up_to_its_size_or_one_that_is_larger() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        calls = await busy(judge, gated, ["a"], ["b", "c"], ["d", "e", "f", "g"], ["h"])
        gated.gate.set()
        await asyncio.gather(*calls)

    assert run(scene, batch=3).batches == [["first"], ["a", "b", "c"], ["d", "e", "f", "g"], ["h"]]


def test_a_full_queue_says_when_to_come_back_and_those_who_wait_lose_nothing() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        calls = await busy(judge, gated, ["a", "b"], ["c"])
        with pytest.raises(BusyError) as caught:
            await judge.judge(questions("d"))
        assert caught.value.retry_after == queueing.RETRY_AFTER
        gated.gate.set()
        assert [len(await call) for call in calls] == [1, 2, 1]
        assert len(await judge.judge(questions("d"))) == 1

    assert run(scene, queue=3).batches == [["first"], ["a", "b", "c"], ["d"]]


class Slow(FakeJudge):
    """A judge that takes a hundredth of a second for a question."""

    def judge_each(self, asked: Sequence[Asked]) -> Said:
        time.sleep(0.01 * len(asked))
        return super().judge_each(asked)


def test_who_would_wait_too_long_is_told_to_come_back_and_lists_wait_for_lists() -> None:
    async def scene(judge: BatchingJudge[Slow]) -> None:
        await judge.judge(questions("how fast it is"))
        calls = [asyncio.create_task(judge.judge(questions(*"0123456789"))) for _ in range(3)]
        await asyncio.sleep(0)
        assert judge.waiting == 30
        with pytest.raises(BusyError):
            await judge.judge(questions("one"))
        calls.append(asyncio.create_task(judge.judge(questions(*"abcde"))))
        assert [len(await call) for call in calls] == [10, 10, 10, 5]
        assert len(await judge.judge(questions("one"))) == 1

    with batching(Slow, patience=0.2) as judge:
        asyncio.run(scene(judge))


def test_nobody_is_let_in_behind_a_batch_that_already_takes_too_long() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        gated.gate.set()
        for _ in range(queueing.PACES):
            await judge.judge(questions("quick"))
        gated.gate.clear()
        gated.entered.clear()
        calls = await busy(judge, gated, [*"0123456789"])
        await asyncio.sleep(0.2)
        with pytest.raises(BusyError):
            await judge.judge(questions("one more"))
        gated.gate.set()
        assert [len(await call) for call in calls] == [1, 10]

    run(scene, patience=0.1)


def test_one_slow_batch_keeps_nobody_out() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        gated.gate.set()
        for _ in range(queueing.PACES // 2 + 1):
            await judge.judge(questions("quick"))
        gated.gate.clear()
        gated.entered.clear()
        calls = await busy(judge, gated, ["a"])
        await asyncio.sleep(0.1)
        gated.gate.set()
        calls += [asyncio.create_task(judge.judge(questions(text))) for text in "bcd"]
        await asyncio.gather(*calls)
        calls = [asyncio.create_task(judge.judge(questions(text))) for text in "efgh"]
        assert [len(await call) for call in calls] == [1, 1, 1, 1]

    run(scene, patience=0.1)


def test_a_request_longer_than_the_queue_is_judged_when_nobody_waits() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        gated.gate.set()
        assert len(await judge.judge(questions("a", "b", "c"))) == 3

    run(scene, queue=2)


def test_who_leaves_is_not_judged_and_keeps_nobody_from_their_own() -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        first, gone, stays = await busy(judge, gated, ["gone"], ["stays"])
        first.cancel()
        gone.cancel()
        await asyncio.sleep(0)
        gated.gate.set()
        assert [text for text, _ in said(await stays)] == ["stays"]
        with suppress(asyncio.CancelledError):
            await gone

    assert run(scene).batches == [["first"], ["stays"]]


@pytest.mark.parametrize(
    ("failure", "fault"),
    [
        (EngineError("out of memory"), "out of memory"),
        (KeyError("x"), "KeyError: 'x'"),
        (StopIteration(), "RuntimeError: something was looked for and is not there"),
    ],
    ids=["engine", "unforeseen", "what no future takes"],
)
def test_a_judge_that_fails_is_told_to_all_who_wait_and_asked_again_by_the_next(failure: Exception, fault: str) -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        assert judge.fault is None
        gated.failures.append(failure)
        gated.gate.set()
        with pytest.raises(EngineError) as caught:
            await judge.judge(questions("a"))
        assert str(caught.value) == judge.fault == fault
        assert len(await judge.judge(questions("b"))) == 1
        assert judge.fault is None

    run(scene)


def test_a_judge_that_says_too_little_gives_nobody_what_is_not_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        calls = await busy(judge, gated, ["a"], ["b"])
        monkeypatch.setattr(FakeJudge, "judge_each", lambda self, asked: [self._opinion(one) for one in asked[1:]])
        gated.gate.set()
        for call in calls:
            with pytest.raises(EngineError, match=r"the judge said \d things about \d questions"):
                await call

    assert run(scene).batches == [["first"], ["a", "b"]]


def test_a_judge_that_failed_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        gated.failures.append(EngineError("out of memory"))
        gated.gate.set()
        with pytest.raises(EngineError):
            await judge.judge(questions("a"))
        assert judge.fault == "out of memory"
        monkeypatch.setattr(local, "RECOVERY", 0.0)
        assert judge.fault is None

    run(scene)


def test_a_stop_does_not_wait_for_a_judge_that_is_being_made_ready() -> None:
    entered, done = threading.Event(), threading.Event()

    def endless(first: Gated) -> Gated:
        entered.set()
        assert done.wait(60)
        return first

    async def scene(judge: BatchingJudge[Gated], gated: Gated) -> None:
        gated.gate.set()
        making = asyncio.create_task(judge.successor(endless))
        assert await asyncio.to_thread(entered.wait, 10)
        making.cancel()

    began = time.monotonic()
    run(scene)
    assert time.monotonic() - began < 30
    done.set()


def test_a_judge_that_cannot_start_is_told_and_leaves_no_thread() -> None:
    def start() -> Gated:
        raise JudgeError("no judge here")

    with pytest.raises(JudgeError, match="no judge here"), batching(start):
        pass
    assert [thread for thread in threading.enumerate() if thread.name.startswith("judge")] == []


class Speaking(Gated):
    """A gated judge whose model answers, and notes what it was asked as batches are noted."""

    def reply(self, asked: Asked, sampling: Sampling) -> Answer | Refusal:
        self.entered.set()
        assert self.gate.wait(10)
        self.threads.add(threading.current_thread().name)
        self.batches.append([f"answer {asked.text}"])
        if self.failures:
            raise self.failures.pop()
        if not asked.text:
            return Refusal(fault="empty_input", reason="ask something")
        return Answer(text=f"to {asked.text}", finish=Finish.STOP, num_prompt_tokens=1, num_tokens=sampling.max_tokens or 2)


def answering(
    scene: Callable[[BatchingJudge[Speaking], LocalAnswerer, Speaking], Awaitable[None]], **settings: Any
) -> Speaking:
    """The judge after `scene` was played with it and its answerer."""
    speaking: list[Speaking] = []

    def start() -> Speaking:
        speaking.append(Speaking())
        return speaking[0]

    async def play(judge: BatchingJudge[Speaking]) -> None:
        try:
            await scene(judge, LocalAnswerer(judge, **settings), speaking[0])
        finally:
            speaking[0].gate.set()

    with batching(start) as judge:
        asyncio.run(play(judge))
    return speaking[0]


async def pieces(answerer: LocalAnswerer, text: str, sampling: Sampling | None = None) -> list[str | Answer]:
    return [piece async for piece in answerer.answer(Asked(text=text), sampling or Sampling())]


def test_answers_are_made_on_the_judges_thread_one_between_two_batches() -> None:
    async def scene(judge: BatchingJudge[Speaking], answerer: LocalAnswerer, speaking: Speaking) -> None:
        answers = [asyncio.create_task(pieces(answerer, text)) for text in "ab"]
        assert await asyncio.to_thread(speaking.entered.wait, 10)
        judgment = asyncio.create_task(judge.judge(questions("c")))
        await asyncio.sleep(0)
        speaking.gate.set()
        first, second = [await answer for answer in answers]
        assert first == ["to a", Answer(text="to a", finish=Finish.STOP, num_prompt_tokens=1, num_tokens=2)]
        assert second[0] == "to b"
        assert len(await judgment) == 1

    speaking = answering(scene)
    assert speaking.batches == [["answer a"], ["c"], ["answer b"]]
    assert len(speaking.threads) == 1


def test_an_answer_is_drawn_as_asked_or_refused_or_fails_and_the_next_one_is_made() -> None:
    async def scene(_: BatchingJudge[Speaking], answerer: LocalAnswerer, speaking: Speaking) -> None:
        speaking.gate.set()
        drawn = (await pieces(answerer, "a", Sampling(max_tokens=7)))[-1]
        assert isinstance(drawn, Answer)
        assert drawn.num_tokens == 7
        with pytest.raises(ServiceError) as refused:
            await pieces(answerer, "")
        assert (refused.value.status, refused.value.code, refused.value.param) == (400, "empty_input", "messages")
        speaking.failures.append(KeyError("x"))
        with pytest.raises(EngineError, match="KeyError: 'x'"):
            await pieces(answerer, "a")
        assert (await pieces(answerer, "a"))[0] == "to a"

    answering(scene)


def test_too_many_who_wait_for_an_answer_are_told_to_come_back_and_who_leaves_makes_room() -> None:
    async def scene(_: BatchingJudge[Speaking], answerer: LocalAnswerer, speaking: Speaking) -> None:
        first, gone = [asyncio.create_task(pieces(answerer, text)) for text in ("first", "gone")]
        assert await asyncio.to_thread(speaking.entered.wait, 10)
        with pytest.raises(BusyError):
            await pieces(answerer, "more")
        gone.cancel()
        await asyncio.sleep(0)
        stays = asyncio.create_task(pieces(answerer, "stays"))
        await asyncio.sleep(0)
        speaking.gate.set()
        assert [(await answer)[0] for answer in (first, stays)] == ["to first", "to stays"]

    assert answering(scene, queue=2).batches == [["answer first"], ["answer stays"]]
