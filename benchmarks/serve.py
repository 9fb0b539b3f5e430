"""What does a judgment cost through the server over the engine alone, and what becomes of it under too much load?

    python -m benchmarks.serve

The service runs in a process of its own, as `python -m serve` starts it, and is asked over loopback HTTP; the engine alone is
vLLM's `AsyncLLM`, given tokens. Both have the same model and settings, take turns, and must read the same probabilities. One
judgment is then held against five answers of 16 tokens and a vote. Callers share the machine's cores with what they ask.

Overload is an open loop: requests come at random moments, whether or not the service keeps up. The knee is the highest rate of
which it judges `KEPT` in time; the peak is the highest pace at any rate.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.asking import CORES, TRIALS, WARMUP, WORDS
from benchmarks.load import Ask, Load, closed, in_turn, opened, over_http
from benchmarks.models import world_model, world_questions, write_random_model
from benchmarks.results import Row, median, report
from benchmarks.service import LONGEST, serving, write_untrained_judge
from know_thyself import prompts
from know_thyself.engine.protocol import EngineSpec
from know_thyself.types import LabelMode, PromptStyle, Question

CASE, ROUNDS, ANSWER = "serve", 3, 16
SINGLES, LIST, LISTS, MANY = 32, 64, 4, 256
"""Callers of single questions; the length of a list and callers of lists; what the bare engine has to do at a time."""
STEPS, BEYOND, KEPT = (0.6, 0.8, 1.0), 2.0, 0.95
"""Rates of the open loop by the capacity, up to it and beyond; the share of a rate that a service that keeps up judges."""
BUDGET = 10.0
"""Milliseconds that the service may add to a judgment."""
CLOSE = 1e-3
"""How far apart p_correct and what the bare engine reads may lie."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, how much it is asked one by one, the seconds of a turn under load; whether it has targets and is overloaded.

    `fastest` is more than what it can judge in a second.
    """

    name: str
    light: int
    voted: int
    seconds: float
    fastest: int
    is_held: bool


WORLD = Size(name="world", light=100, voted=20, seconds=4.0, fastest=3000, is_held=False)
LARGE = Size(name="64 M", light=60, voted=8, seconds=6.0, fastest=500, is_held=True)


class Bare:
    """The limit: one `AsyncLLM` with the service's settings, whose engine is a process of its own."""

    def __init__(self, model: str) -> None:
        from know_thyself.engine.chat import ChatTokenizer
        from know_thyself.engine.vllm import environment, llm_settings

        spec = EngineSpec(base=model, device="cpu", mode="swap", max_model_len=LONGEST, cores=CORES)
        os.environ |= environment(spec) | {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._chat, self._numbers = ChatTokenizer(model), itertools.count()
        self._tokens = list(self._chat.word_tokens(WORDS))
        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**llm_settings(spec)))

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

    def voting(self) -> Ask:
        """A way to sample five answers to each text, all of the full length, and take the commonest."""

        async def ask(texts: Sequence[str]) -> int:
            for text in texts:
                ids = self._chat.encode(prompts.answer_messages(Question(id="", text=text, answers=())))
                output = await self._generate(
                    ids, n=TRIALS, max_tokens=ANSWER, min_tokens=ANSWER, temperature=0.7, seed=next(self._numbers)
                )
                Counter(prompts.extract_answer(answer.text) for answer in output.outputs).most_common(1)
            return len(texts)

        return ask

    async def _generate(self, ids: Sequence[int], **settings: Any) -> Any:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, **settings)
        name = str(next(self._numbers))
        return [output async for output in self._llm.generate({"prompt_token_ids": list(ids)}, params, name)][-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """The ways to ask that take turns, and the texts that are asked, which never repeat."""

    served: Ask
    bare: Bare
    texts: Iterator[str]

    def some(self, count: int) -> tuple[Ask, Iterator[str]]:
        """The bare engine with the tokens of `count` texts ready, and these texts."""
        texts = list(itertools.islice(self.texts, count))
        return self.bare.judging(texts), iter(texts)


def run() -> Iterator[Row]:
    """All comparisons on both models."""
    with tempfile.TemporaryDirectory() as scratch:
        for size, model in ((LARGE, write_random_model(Path(scratch) / "model")), (WORLD, world_model())):
            yield from asyncio.run(_compared(size, model, Path(scratch) / size.name.replace(" ", "-")))


async def _compared(size: Size, model: str, scratch: Path) -> list[Row]:
    async with _both(model, scratch) as ways:
        rows = await _light(size, ways)
        more, capacity = await _saturated(size, ways)
        return [*rows, *more, *(await _overloaded(size, ways, capacity) if size.is_held else [])]


@asynccontextmanager
async def _both(model: str, scratch: Path) -> AsyncIterator[Ways]:
    """The service and the bare engine, both up and warm."""
    scratch.mkdir()
    judge = write_untrained_judge(model, scratch / "judge")
    with serving("--judge", judge, log=scratch / "log") as (url, _):
        bare = Bare(model)
        try:
            async with over_http(url) as served:
                ways = Ways(served=served, bare=bare, texts=_texts())
                await _check_same(url, ways)
                yield ways
        finally:
            bare.close()


def _texts() -> Iterator[str]:
    """Questions without end, no two alike."""
    questions = world_questions(6000)
    for lap in itertools.count():
        yield from (f"{question.text} ({lap})" if lap else question.text for question in questions)


async def _check_same(url: str, ways: Ways) -> None:
    """Warm both up, and raise `ValueError` unless they read the same."""
    texts = list(itertools.islice(ways.texts, WARMUP))
    async with aiohttp.ClientSession(url) as session, session.post("/v1/judgments", json={"input": texts}) as answer:
        said = [item["p_correct"] for item in (await answer.json())["data"]]
    read = await asyncio.gather(*(ways.bare.share(ids) for ids in ways.bare.tokens(texts).values()))
    if (apart := max(abs(one - other) for one, other in zip(said, read, strict=True))) > CLOSE:
        raise ValueError(f"service and engine read probabilities that are apart by {apart:.1e}: they do not ask alike")


async def _light(size: Size, ways: Ways) -> list[Row]:
    """One question at a time: what the service adds, and how much quicker one judgment is than a vote."""
    served, bare, voted = list[float](), list[float](), list[float]()
    await in_turn(ways.bare.voting(), ways.texts, 1)
    for _ in range(ROUNDS):
        served.append((await in_turn(ways.served, ways.texts, size.light)).within(0.5))
        engine, texts = ways.some(size.light)
        bare.append((await in_turn(engine, texts, size.light)).within(0.5))
        voted.append((await in_turn(ways.bare.voting(), ways.texts, size.voted)).within(0.5))
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
        engine, texts = ways.some(int(size.seconds * size.fastest))
        limits.append((await closed(engine, texts, MANY, size.seconds)).pace)

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
    loads: dict[float, list[Load]] = {step: [] for step in (*STEPS, BEYOND)}
    for turn in range(ROUNDS):
        for step, taken in loads.items():
            taken.append(await opened(ways.served, ways.texts, step * capacity, size.seconds, seed=turn))
    paces = {step: median(load.pace for load in taken) for step, taken in loads.items()}
    slowest = {step: median(load.within(0.99) for load in taken) * 1000 for step, taken in loads.items()}
    knee = max((step for step in STEPS if paces[step] >= KEPT * step * capacity), default=STEPS[0])
    return [
        Row(
            case=CASE,
            size=size.name,
            against=f"peak, at {BEYOND:g} times the capacity",
            ours=paces[BEYOND],
            theirs=max(paces.values()),
            unit="questions/s",
            target=0.9,
        ),
        Row(
            case=CASE,
            size=size.name,
            against=f"the knee ({knee:g} of the capacity), p99 at {BEYOND:g} times",
            ours=slowest[BEYOND],
            theirs=slowest[knee],
            unit="ms",
            target=2,
            less_is_better=True,
        ),
    ]


if __name__ == "__main__":
    report(CASE, run)
