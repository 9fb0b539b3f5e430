"""A bench without a cluster: its questions are given, its model is a name."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from know_thyself.compute.room import Room
from know_thyself.config import RunConfig
from know_thyself.data.splits import Questions
from know_thyself.experiment import Experiment
from know_thyself.pipelines.bench import Bench
from know_thyself.pipelines.inputs import Inputs
from know_thyself.types import ModelRef

NO_MODEL = ModelRef(name="none", digest="none")


def bench_of(root: Path, questions: Questions, config: RunConfig) -> Bench:
    """The experiment `run` under `root`, on these questions."""
    inputs = Inputs(questions=questions, context_cut={}, base=NO_MODEL, prefill="", encoding="none", verdict_tokens=(0, 1))
    console = Console(quiet=True)
    return Bench(
        config=config,
        experiment=Experiment(root / "run", attempt=1),
        inputs=inputs,
        console=console,
        room=Room(0, console),
        device="cpu",
        mode="swap",
    )
