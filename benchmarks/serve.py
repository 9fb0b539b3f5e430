"""What does a judgment cost through the server over the engine alone, and what becomes of it under too much load?

    python -m benchmarks.serve

The service runs in a process of its own, as `python -m serve` starts it, and is asked over loopback HTTP. The engine alone is
given tokens: one question at a time by vLLM's `AsyncLLM`, which must read the same probabilities, and all at once by `LLM`, the
most that it can do. All have the same model and settings, and take turns. One judgment is then held against five answers of 16
tokens and a vote. Callers share the machine's cores with what they ask.

Overload is an open loop: requests come at random moments, whether or not the service keeps up. The knee is the highest rate at
which it does, the peak the highest pace at any rate.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.asking import TRIALS, WARMUP, WORDS, Asking, Bare
from benchmarks.load import BEYOND, Ask, closed, in_turn, over_http, rising
from benchmarks.models import endless_texts, world_model, world_questions, write_random_model
from benchmarks.results import Row, median, report
from benchmarks.service import LONGEST, serving, untrained_card
from know_thyself import prompts
from know_thyself.engine.protocol import Decoding
from know_thyself.judge import write_judge
from know_thyself.types import LabelMode, PromptStyle, Question

CASE, ROUNDS, ANSWER = "serve", 3, 16
SINGLES, LIST, LISTS = 32, 64, 4
"""Callers of single questions; the length of a list, and callers of lists."""
BUDGET = 10.0
"""Milliseconds that the service may add to a judgment."""
CLOSE = 1e-3
"""How far apart p_correct and what the bare engine reads may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, how much it is asked one by one and at once, the seconds of a turn under load; whether it has targets.

    Only one that has is overloaded.
    """

    name: str
    light: int
    voted: int
    at_once: int
    seconds: float
    is_held: bool


WORLD = Size(name="world", light=100, voted=20, at_once=6000, seconds=4.0, is_held=False)
LARGE = Size(name="64 M", light=60, voted=8, at_once=768, seconds=6.0, is_held=True)


class OneByOne:
    """The limit of a single question: one `AsyncLLM` with the service's settings, whose engine is a process of its own."""

    def __init__(self, asking: Asking) -> None:
        from know_thyself.engine.chat import ChatTokenizer
        from know_thyself.engine.vllm import environment, llm_settings

        os.environ |= environment(asking.spec) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._chat, self._numbers = ChatTokenizer(asking.model), itertools.count()
        self._tokens = list(self._chat.word_tokens(WORDS))
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**llm_settings(asking.spec)))

    def close(self) -> None:
        """End the engine."""
        self._llm.shutdown()

    def judging(self, texts: Sequence[str]) -> Ask:
        """A way to ask for one token's log-probabilities upon each of `texts`, whose tokens are ready beforehand."""
        ready = self.tokens(texts)

        async def ask(texts: Sequence[str]) -> int:
            for text in texts:
                await self.share(ready[text])
            return len(texts)

        return ask

    def tokens(self, texts: Sequence[str]) -> dict[str, list[int]]:
        """The tokens by which each of `texts` is judged."""
        asked = [Question(id="", text=text, answers=()) for text in texts]
        chats = [prompts.judge_messages(question, PromptStyle.SYSTEM, LabelMode.BINARY) for question in asked]
        return dict(zip(texts, self._chat.encode_all(chats), strict=True))

    async def share(self, ids: Sequence[int]) -> float:
        """The share of "yes" among the verdict words after the prompt `ids`."""
        output = await self._generate(ids, max_tokens=1, temperature=0.0, logprob_token_ids=self._tokens)
        yes, no = (output.outputs[0].logprobs[0][token].logprob for token in self._tokens)
        return 1 / (1 + math.exp(no - yes))

    async def vote(self, texts: Sequence[str]) -> int:
        """Sample five answers to each of `texts`, all of the full length, and take the commonest."""
        for text in texts:
            ids = self._chat.encode(prompts.answer_messages(Question(id="", text=text, answers=())))
            output = await self._generate(
                ids, n=TRIALS, max_tokens=ANSWER, min_tokens=ANSWER, temperature=0.7, seed=next(self._numbers)
            )
            Counter(prompts.extract_answer(answer.text) for answer in output.outputs).most_common(1)
        return len(texts)

    async def _generate(self, ids: Sequence[int], **settings: Any) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **settings)
        name = str(next(self._numbers))
        return [output async for output in self._llm.generate({"prompt_token_ids": list(ids)}, params, name)][-1]


class AtOnce:
    """The limit of many: `asking.Bare` in a process of its own, as one process holds one kind of engine."""

    def __init__(self, asking: Asking) -> None:
        self._process = ProcessPoolExecutor(1, get_context("spawn"), _open, (asking,))

    def pace(self, count: int) -> float:
        """The questions that it judges a second, `count` in one call."""
        return count / self._process.submit(_judge, count).result()

    def close(self) -> None:
        """End the process."""
        self._process.shutdown()


_opened: list[Bare] = []


def _open(asking: Asking) -> None:
    _opened.append(Bare(asking))


def _judge(count: int) -> float:
    seconds, _ = _opened[0].judge(count)
    return seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The ways to judge that take turns, and the texts that are asked, no two alike."""

    served: Ask
    alone: OneByOne
    at_once: AtOnce
    texts: Iterator[str]


def run() -> Iterator[Row]:
    """All comparisons on both models."""
    with tempfile.TemporaryDirectory() as scratch:
        for size, model in ((LARGE, write_random_model(Path(scratch) / "model")), (WORLD, world_model())):
            yield from asyncio.run(_compared(size, model, Path(scratch) / size.name.replace(" ", "-")))


async def _compared(size: Size, model: str, scratch: Path) -> list[Row]:
    async with _all_ways(size, model, scratch) as ways:
        rows = await _light(size, ways)
        more, capacity = await _saturated(size, ways)
        return [*rows, *more, *(await _overloaded(size, ways, capacity) if size.is_held else [])]


@asynccontextmanager
async def _all_ways(size: Size, model: str, scratch: Path) -> AsyncIterator[Ways]:
    """The service and the bare engines, all up and warm, the first two reading the same."""
    scratch.mkdir()
    write_judge(scratch / "judge", untrained_card(model), None)
    decoding = Decoding(num_trials=TRIALS, temperature=0.7, top_p=1.0, max_tokens=ANSWER)
    asking = Asking(model=model, questions=world_questions(size.at_once), decoding=decoding, max_model_len=LONGEST)
    async with AsyncExitStack() as opened:
        url, _ = opened.enter_context(serving("--judge", scratch / "judge", log=scratch / "log"))
        alone = OneByOne(asking)
        opened.callback(alone.close)
        at_once = AtOnce(asking)
        opened.callback(at_once.close)
        at_once.pace(WARMUP)
        ways = Ways(
            served=await opened.enter_async_context(over_http(url)), alone=alone, at_once=at_once, texts=endless_texts()
        )
        await _check_same(url, ways)
        yield ways


async def _check_same(url: str, ways: Ways) -> None:
    """Warm both up, and raise `ValueError` unless they read the same."""
    texts = list(itertools.islice(ways.texts, WARMUP))
    async with aiohttp.ClientSession(url) as session, session.post("/v1/judgments", json={"input": texts}) as answer:
        said = [item["p_correct"] for item in (await answer.json())["data"]]
    read = [await ways.alone.share(ids) for ids in ways.alone.tokens(texts).values()]
    if (apart := max(abs(one - other) for one, other in zip(said, read, strict=True))) > CLOSE:
        raise ValueError(f"service and engine read probabilities that are apart by {apart:.1e}: they do not ask alike")


async def _light(size: Size, ways: Ways) -> list[Row]:
    """One question at a time: what the service adds, and how much quicker one judgment is than a vote."""
    served, bare, voted = list[float](), list[float](), list[float]()
    await in_turn(ways.alone.vote, ways.texts, 1)
    for _ in range(ROUNDS):
        served.append((await in_turn(ways.served, ways.texts, size.light)).within(0.5))
        texts = list(itertools.islice(ways.texts, size.light))
        bare.append((await in_turn(ways.alone.judging(texts), iter(texts), size.light)).within(0.5))
        voted.append((await in_turn(ways.alone.vote, ways.texts, size.voted)).within(0.5))
    ours, theirs, vote = median(served), median(bare), median(voted)
    added = median(one - other for one, other in zip(served, bare, strict=True))
    return [
        Row(
            case=CASE,
            size=size.name,
            against="bare engine, one at a time, p50",
            ours=ours * 1000,
            theirs=theirs * 1000,
            unit="ms",
            less_is_better=True,
        ),
        Row(
            case=CASE,
            size=size.name,
            against=f"{BUDGET:g} ms over the bare engine, one at a time, p50",
            ours=added * 1000,
            theirs=BUDGET,
            unit="ms",
            target=1 if size.is_held else None,
            less_is_better=True,
        ),
        Row(
            case=CASE,
            size=size.name,
            against=f"{TRIALS} answers of {ANSWER} tokens and a vote, one at a time, p50",
            ours=1 / ours,
            theirs=1 / vote,
            unit="questions/s",
            target=8 if size.is_held else None,
        ),
    ]


async def _saturated(size: Size, ways: Ways) -> tuple[list[Row], float]:
    """As many questions as can be judged: the rows, and how many single ones the service judges a second."""
    singles, lists, limits = list[float](), list[float](), list[float]()
    for _ in range(ROUNDS):
        singles.append((await closed(ways.served, ways.texts, SINGLES, size.seconds)).pace)
        lists.append((await closed(ways.served, ways.texts, LISTS, size.seconds, LIST)).pace)
        limits.append(ways.at_once.pace(size.at_once))

    def row(against: str, ours: float, target: float) -> Row:
        return Row(
            case=CASE,
            size=size.name,
            against=against,
            ours=ours,
            theirs=median(limits),
            unit="questions/s",
            target=target if size.is_held else None,
        )

    alone = row(f"bare engine, saturated, by {SINGLES} callers", median(singles), 0.7)
    return [alone, row(f"bare engine, saturated, in lists of {LIST}", median(lists), 0.9)], median(singles)


async def _overloaded(size: Size, ways: Ways, capacity: float) -> list[Row]:
    """Rates up to the capacity and twice as much: what is judged of them, and in what time."""
    rise = await rising(ways.served, ways.texts, capacity, 2 * size.seconds, ROUNDS)
    return [
        Row(
            case=CASE,
            size=size.name,
            against=f"peak, at {BEYOND:g} times the capacity",
            ours=rise.paces[BEYOND],
            theirs=rise.peak,
            unit="questions/s",
            target=0.9,
        ),
        Row(
            case=CASE,
            size=size.name,
            against=f"the knee ({rise.knee:g} of the capacity), p99 at {BEYOND:g} times",
            ours=rise.slowest[BEYOND] * 1000,
            theirs=rise.slowest[rise.knee] * 1000,
            unit="ms",
            target=2,
            less_is_better=True,
        ),
    ]


if __name__ == "__main__":
    report(CASE, run)
