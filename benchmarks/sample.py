"""What does our stage cost over the engine it stands on when it samples five answers, and what do others take?

    python -m benchmarks.sample

Against bare vLLM (`LLM.generate(n=5)`, tokens ready, all questions in one call), five rows for each question through Ray Data's
own vLLM processor, and transformers' `generate`. Ours and bare vLLM must give the same answers.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ray

from benchmarks.asking import TRIALS, WARMUP, Asking, Bare, Transformers, run_processor, run_stage, session, start
from benchmarks.models import world_model, world_questions, write_random_model
from benchmarks.results import Row, median, report
from know_thyself.config import EngineConfig
from know_thyself.engine.protocol import Decoding

CASE, UNIT, REPEATS = "sample", "questions/s", 2
LEAST_EQUAL = 0.99
"""The share of trials that ours and bare vLLM must have in common: vLLM promises no equality across batches on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, how much it is asked by each way, and what is to be reached: steady, and (None: shown) with start-up."""

    name: str
    max_tokens: int
    questions: int
    singly: int
    batch: int
    steady: float
    by_one: float
    whole: float | None


WORLD = Size(name="world", max_tokens=12, questions=3000, singly=200, batch=32, steady=0.75, by_one=3.5, whole=None)
LARGE = Size(name="64 M", max_tokens=16, questions=512, singly=12, batch=16, steady=0.95, by_one=4.3, whole=0.85)


def run() -> Iterator[Row]:
    """All comparisons on both models."""
    with tempfile.TemporaryDirectory() as scratch:
        for size, model in ((WORLD, world_model()), (LARGE, write_random_model(Path(scratch) / "model"))):
            yield from _compare(size, model)


def _compare(size: Size, model: str) -> Iterator[Row]:
    decoding = Decoding(num_trials=TRIALS, temperature=0.7, top_p=1.0, max_tokens=size.max_tokens)
    asking = Asking(model=model, questions=world_questions(size.questions), decoding=decoding)
    block_rows = EngineConfig().block_rows
    with session() as experiment:
        bare, ready = start(Bare, asking)
        warm_up, _ = ray.get(bare.sample.remote(WARMUP))
        ours, limits, peers = [], [], []
        for _ in range(REPEATS):
            pace, rows = run_stage(experiment, asking, samples=True, judges=False)
            seconds, texts = ray.get(bare.sample.remote(size.questions))
            _check_same({name: [trial["text"] for trial in row["trials"]] for name, row in rows.items()}, texts)
            ours.append(pace)
            limits.append(seconds / size.questions)
            peers.append(run_processor(experiment, asking, block_rows)[0])
        ray.kill(bare)
        loop, _ = start(Transformers, asking)
        ray.get(loop.sample.remote(size.batch, size.batch))
        by_one = median(ray.get(loop.sample.remote(size.singly, 1)) for _ in range(REPEATS)) / size.singly
        count = 4 * size.batch
        batched = median(ray.get(loop.sample.remote(count, size.batch)) for _ in range(REPEATS)) / count
        ray.kill(loop)
    speed, limit = 1 / median(run.steady for run in ours), 1 / median(limits)
    whole, bare_whole = median(run.total for run in ours), ready + warm_up + (size.questions - WARMUP) / limit
    started = f"{size.name}, start-up and {size.questions} questions"

    def row(against: str, theirs: float, target: float | None = None) -> Row:
        return Row(case=CASE, size=size.name, against=against, ours=speed, theirs=theirs, unit=UNIT, target=target)

    yield row("bare vLLM, steady", limit, size.steady)
    yield Row(
        case=CASE,
        size=started,
        against="bare vLLM",
        ours=size.questions / whole,
        theirs=size.questions / bare_whole,
        unit=UNIT,
        target=size.whole,
    )
    yield row("ray.data.llm, five rows each, steady", 1 / median(run.steady for run in peers), 1.3)
    peer_whole = median(run.total for run in peers)
    yield Row(
        case=CASE,
        size=started,
        against="ray.data.llm, five rows each",
        ours=size.questions / whole,
        theirs=size.questions / peer_whole,
        unit=UNIT,
    )
    yield row("transformers, question by question", 1 / by_one, size.by_one)
    yield row(f"transformers, batches of {size.batch}", 1 / batched)


def _check_same(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> None:
    """Raise `ValueError` unless both ways gave the same answers."""
    pairs = [(a, b) for name, texts in theirs.items() for a, b in zip(ours[name], texts, strict=True)]
    same = sum(a == b for a, b in pairs) / len(pairs)
    print(f"{same:.2%} of {len(pairs)} trials are the same", flush=True)
    if same < LEAST_EQUAL:
        raise ValueError(f"only {same:.1%} of trials are the same: the two ways do not ask alike")


if __name__ == "__main__":
    report(CASE, run)
