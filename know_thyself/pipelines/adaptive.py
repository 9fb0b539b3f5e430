"""The adaptive pipeline: measure what the model can answer, then teach it, epoch by epoch, to judge that beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from know_thyself.config import RunConfig
from know_thyself.experiment.place import address
from know_thyself.pipelines.bench import Bench, open_bench
from know_thyself.pipelines.evidence import Chosen, gather
from know_thyself.pipelines.inputs import Inputs
from know_thyself.pipelines.publishing import push_judge
from know_thyself.pipelines.results import show_epochs, write_best, write_results
from know_thyself.pipelines.rounds import EpochResult, best_of, judge_epochs
from know_thyself.progress import Spoken


def run(config: RunConfig, inputs: Inputs, console: Spoken) -> Path:
    """Run the adaptive pipeline of `config` on `inputs`, from where an earlier run of it stopped; the experiment's folder."""
    with open_bench(config, inputs, console) as bench:
        return _run(bench)


def _run(bench: Bench) -> Path:
    bench.check_workers()
    questions = bench.put_questions()
    epochs = judge_epochs(bench, questions, lambda so_far: show_epochs(bench, questions, so_far))
    found = gather(bench, _chosen(bench, epochs))
    write_results(bench, questions, epochs, found)
    if "audit" in found:
        bench.console.print(found["audit"]["verdict"], highlight=False)
    write_best(bench, best_of(epochs), found)
    if bench.config.push_to_hub:
        bench.console.print(f"pushed to {push_judge(bench, bench.config.push_to_hub)}")
    bench.console.print(f"report: {address(bench.experiment.report)}")
    return bench.experiment.path


def _chosen(bench: Bench, epochs: Sequence[EpochResult]) -> Chosen:
    """The judge of the best epoch, for its evidence."""
    best = best_of(epochs)
    return Chosen(
        examined=best.examined(bench),
        scores=best.scores,
        fitted=best.fitted,
        sampled=best.collected.sampled,
        untrained=epochs[0].examined(bench),
    )
