"""What does a judgment by our stage cost over the engine it stands on, and what do others take?

    python -m benchmarks.judge

Against one token's prefill by bare vLLM, all questions in one call, and against verdicts that are generated in up to 32 tokens
and parsed: by vLLM, and by transformers question by question, the prototype's way. Then what an epoch saves that judges alone,
as its answerer is frozen, over one that asks for the answers again. Ours and bare vLLM must read the same probabilities.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from benchmarks.asking import TRIALS, WARMUP, Asking, Bare, Transformers, run_stage, session, start
from benchmarks.models import world_model, world_questions, write_random_model
from benchmarks.results import Row, median, report
from know_thyself.engine.protocol import Decoding

CASE, REPEATS, SAID = "judge", 2, 32
CLOSE = 1e-3
"""How far the probability mass of the verdict words may lie apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model, how many questions each way judges, and what is to be reached (None: shown)."""

    name: str
    questions: int
    said: int
    by_one: int
    sampled: int
    parsing: float | None
    frozen: float | None


WORLD = Size(name="world", questions=2048, said=512, by_one=64, sampled=512, parsing=None, frozen=None)
LARGE = Size(name="64 M", questions=512, said=128, by_one=8, sampled=384, parsing=12, frozen=4)


def run() -> Iterator[Row]:
    """All comparisons on both models."""
    with tempfile.TemporaryDirectory() as scratch:
        for size, model in ((WORLD, world_model()), (LARGE, write_random_model(Path(scratch) / "model"))):
            yield from _compare(size, model)


def _compare(size: Size, model: str) -> Iterator[Row]:
    decoding = Decoding(num_trials=TRIALS, temperature=0.7, top_p=1.0, max_tokens=16)
    asking = Asking(model=model, questions=world_questions(size.questions), decoding=decoding)
    fewer = Asking(model=model, questions=asking.questions[: size.sampled], decoding=decoding)
    with session() as experiment:
        bare, _ = start(Bare, asking)
        ray.get(bare.judge.remote(WARMUP))
        ours, limits, spoken = [], [], []
        for _ in range(REPEATS):
            pace, rows = run_stage(experiment, asking, samples=False, judges=True)
            seconds, reads = ray.get(bare.judge.remote(size.questions))
            _check_same(rows, reads)
            ours.append(pace.steady)
            limits.append(seconds / size.questions)
            spoken.append(ray.get(bare.say.remote(size.said, SAID)) / size.said)
        both, _ = run_stage(experiment, fewer, samples=True, judges=True)
        ray.kill(bare)
        loop, _ = start(Transformers, asking)
        ray.get(loop.say.remote(2, 1, SAID))
        parsed = median(ray.get(loop.say.remote(size.by_one, 1, SAID)) for _ in range(REPEATS)) / size.by_one
        ray.kill(loop)
    speed = 1 / median(ours)

    def row(against: str, theirs: float, target: float | None) -> Row:
        return Row(case=CASE, size=size.name, against=against, ours=speed, theirs=1 / theirs, unit="questions/s", target=target)

    yield row("bare one-token prefill, steady", median(limits), 0.9)
    yield row("generate 32 tokens and parse, transformers", parsed, size.parsing)
    yield row("generate 32 tokens and parse, vLLM", median(spoken), None)
    yield row("sample and judge again, steady", both.steady, size.frozen)


def _check_same(rows: dict[str, dict[str, Any]], reads: dict[str, list[float]]) -> None:
    """Raise `ValueError` unless both ways read the same."""
    apart = max(abs(sum(map(math.exp, read)) - rows[name]["mass"]) for name, read in reads.items())
    if apart > CLOSE:
        raise ValueError(f"the verdict words' mass is apart by {apart:.1e}: the two ways do not ask alike")


if __name__ == "__main__":
    report(CASE, run)
