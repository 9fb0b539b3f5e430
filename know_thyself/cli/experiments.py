"""Commands on experiments: `ask`, `report`, `compare`, `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from know_thyself.errors import ConfigError
from know_thyself.experiment import Experiment, find_experiment
from know_thyself.experiment.place import address, locate
from know_thyself.progress import STDERR, own_console, streams_to

Name = Annotated[str, typer.Argument(help="name of an experiment, or latest")]
Root = Annotated[
    str,
    typer.Option(
        "--experiments-root",
        envvar="KT_EXPERIMENTS",
        metavar="PATH",
        help="folder that holds the experiments, or s3://bucket/prefix or gs://bucket/prefix",
    ),
]
DEFAULT_ROOT = "experiments"


def named_experiment(name: str, root: str) -> Experiment:
    """The experiment `name` under `root`. Raises `StoreError` when there is none."""
    return find_experiment(locate(root), name)


def ask(
    name: Name,
    question: Annotated[str, typer.Argument(help="the question")],
    context: Annotated[str | None, typer.Option(help="a text to answer from; its end is cut where it is too long")] = None,
    answer: Annotated[bool, typer.Option("--answer", help="let the model answer as well")] = False,
    trust_remote_code: Annotated[bool, typer.Option("--trust-remote-code", help="run code that comes with the model")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ask the judge of an experiment whether its model can answer a question."""
    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    if context is not None and not context.strip():
        raise ConfigError("the context is empty: give it a text, or leave --context out")
    experiment = named_experiment(name, root)
    terminal = own_console(STDERR)
    terminal.print("starting an engine, 20 to 40 seconds on a CPU")
    with streams_to(experiment.path / "logs" / "ask.log"):
        from know_thyself.client.local import LocalJudge

        with LocalJudge(experiment.judge, trust_remote_code=trust_remote_code) as judge:
            opinion = judge.judge(question, context)
            reply = judge.answer([question], [context])[0] if answer else None
            longest = judge.card.max_model_len
    if opinion.context_cut:
        terminal.print(f"the context was too long and lost its end: the model reads {longest} tokens at most")
    if opinion.p_correct is None:
        print(f"{opinion.verdict}: P({opinion.event}) = {opinion.confidence:.2f}, not calibrated")
    else:
        print(f"{opinion.verdict}: {opinion.p_correct:.0%} right answers to expect")
    if reply is not None:
        print(f"answer: {reply}")


def report(
    name: Name = "latest",
    accuracy: Annotated[float | None, typer.Option(help="also: the threshold that promises this accuracy")] = None,
    coverage: Annotated[float | None, typer.Option(help="also: the threshold that promises to let this share pass")] = None,
    wrong: Annotated[float | None, typer.Option(help="also: the cheapest threshold when a wrong answer costs this")] = None,
    escalation: Annotated[float, typer.Option(help="and one that is not given, this")] = 1.0,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Print the summary table of an experiment, where its report is, and thresholds for what is asked for."""
    import json

    from know_thyself.errors import StoreError
    from know_thyself.pipelines.study_table import study_tables
    from know_thyself.pipelines.table import summary_table

    experiment = named_experiment(name, root)
    if not experiment.summary.is_file():
        raise StoreError(f"experiment {experiment.name} has no summary yet: run its command again, it goes on where it stopped")
    console = Console()
    console.print(summary_table(json.loads(experiment.summary.read_text())))
    if experiment.study.is_file():
        for table in study_tables(json.loads(experiment.study.read_text())):
            console.print(table)
        console.print(f"study: {address(experiment.study_page)}", highlight=False, soft_wrap=True)
    console.print(f"report: {address(experiment.report)}", highlight=False, soft_wrap=True)
    if accuracy is not None or coverage is not None or wrong is not None:
        from know_thyself.pipelines.wishes import Wish, answer_wishes

        wish = Wish(accuracy=accuracy, coverage=coverage, wrong=wrong, escalation=escalation)
        for line in answer_wishes(experiment, wish):
            console.print(line, highlight=False, soft_wrap=True)


def compare(
    first: Annotated[str, typer.Argument(help="name of an experiment")],
    second: Annotated[str, typer.Argument(help="name of another")],
    any_rule: Annotated[bool, typer.Option("--any-rule", help="compare also where the labels follow unlike rules")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Set the judges of two experiments side by side on the validation questions that both measured."""
    from know_thyself.pipelines.comparing import compare_experiments, comparison_table

    sides = named_experiment(first, root), named_experiment(second, root)
    Console().print(comparison_table(compare_experiments(*sides, any_rule=any_rule)))


def export(
    name: Name,
    layout: Annotated[
        Literal["jsonl"], typer.Option("--format", help="jsonl: JSON Lines under the prototype's names")
    ] = "jsonl",
    out: Annotated[Path | None, typer.Option(help="folder to write to; export/ in the experiment's when not given")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Write the answers, abilities and judgments of an experiment as files for eyes and jq."""
    from know_thyself.pipelines.export import export_jsonl

    experiment = named_experiment(name, root)
    writers = {"jsonl": export_jsonl}
    for path in writers[layout](experiment, (out or experiment.path / "export").expanduser().absolute()):
        print(address(path))
