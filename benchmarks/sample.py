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

from benchmarks.asking import TRIALS, WARMUP, Asking, Bare, Pace, Transformers, middle, run_processor, run_stage, session, start
from benchmarks.models import world_model, world_questions, write_random_model
from benchmarks.results import Row, median, report
from know_thyself.engine.protocol import Decoding
from know_thyself.experiment import Experiment

CASE = "sample"
SAME = 0.99
"""The share of trials that ours and bare vLLM are to have in common: vLLM promises no equality across batches on a CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, how much it is asked by each way, and what is to be reached: steady, and (None: shown) with start-up.

    Whether Ray Data's own processor, the slowest of those that are asked all questions, takes part too.
    """

    name: str
    repeats: int
    max_tokens: int
    questions: int
    singly: int
    batch: int
    steady: float
    by_one: float
    whole: float | None
    has_peer: bool


WORLD = Size(
    name="world",
    repeats=2,
    max_tokens=12,
    questions=2000,
    singly=64,
    batch=32,
    steady=0.75,
    by_one=3.5,
    whole=None,
    has_peer=True,
)
LARGE = Size(
    name="64 M",
    repeats=1,
    max_tokens=16,
    questions=512,
    singly=8,
    batch=16,
    steady=0.95,
    by_one=4.3,
    whole=0.85,
    has_peer=False,
)


def run() -> Iterator[Row]:
    """All comparisons on both models."""
    with tempfile.TemporaryDirectory() as scratch:
        for size, model in ((WORLD, world_model()), (LARGE, write_random_model(Path(scratch) / "model"))):
            yield from _compare(size, model)


def _compare(size: Size, model: str) -> Iterator[Row]:
    decoding = Decoding(num_trials=TRIALS, temperature=0.7, top_p=1.0, max_tokens=size.max_tokens)
    asking = Asking(model=model, questions=world_questions(size.questions), decoding=decoding)
    with session() as experiment:
        peer = run_processor(experiment, asking) if size.has_peer else None
        ours, limit, common = _take_turns(experiment, asking, size.repeats)
        by_one, batched = _loops(asking, size)
    started = f"{size.name}, start-up and {size.questions} questions"

    def row(against: str, theirs: float, target: float | None = None) -> Row:
        return _row(size.name, against, ours.steady, theirs, target)

    total = float(size.questions * TRIALS)
    yield Row(
        case=CASE, size=size.name, against="bare vLLM, same answers", ours=common, theirs=total, unit="trials", target=SAME
    )
    yield row("bare vLLM, steady", limit.steady, size.steady)
    yield _row(started, "bare vLLM", ours.each, limit.each, size.whole)
    if peer is not None:
        yield _row(started, "ray.data.llm, five rows each", ours.each, peer / size.questions, 1.3)
    yield row("transformers, question by question", by_one, size.by_one)
    yield row(f"transformers, batches of {size.batch}", batched)


def _row(size: str, against: str, ours: float, theirs: float, target: float | None = None) -> Row:
    """A comparison of seconds per question, told as questions per second."""
    return Row(case=CASE, size=size, against=against, ours=1 / ours, theirs=1 / theirs, unit="questions/s", target=target)


def _take_turns(experiment: Experiment, asking: Asking, repeats: int) -> tuple[Pace, Pace, float]:
    """The paces of our stage and of bare vLLM, and the trials that they share."""
    count = len(asking.questions)
    bare, ready = start(Bare, asking)
    warm_up, _ = ray.get(bare.sample.remote(WARMUP))
    ours, limits, common = [], [], []
    for _ in range(repeats):
        pace, rows = run_stage(experiment, asking, samples=True, judges=False)
        seconds, texts = ray.get(bare.sample.remote(count))
        common.append(_common({name: [trial["text"] for trial in row["trials"]] for name, row in rows.items()}, texts))
        ours.append(pace)
        limits.append(Pace(questions=count, total=ready + warm_up + seconds, steady=seconds / count))
    ray.kill(bare)
    return middle(ours), middle(limits), median(common)


def _loops(asking: Asking, size: Size) -> tuple[float, float]:
    """Seconds per question of transformers, question by question and in batches."""
    loop, _ = start(Transformers, asking)
    ray.get(loop.sample.remote(size.batch, size.batch))
    by_one, batched = [], []
    for _ in range(2):
        by_one.append(ray.get(loop.sample.remote(size.singly, 1)) / size.singly)
        batched.append(ray.get(loop.sample.remote(size.batch, size.batch)) / size.batch)
    ray.kill(loop)
    return median(by_one), median(batched)


def _common(ours: dict[str, list[str]], theirs: dict[str, list[str]]) -> int:
    """The trials in which both ways gave the same answer."""
    return sum(a == b for name, texts in theirs.items() for a, b in zip(ours[name], texts, strict=True))


if __name__ == "__main__":
    report(CASE, run)
