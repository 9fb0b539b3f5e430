"""The human's command: `know-thyself ask | report | export | world`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from know_thyself import __version__
from know_thyself.errors import ConfigError, KnowThyselfError
from know_thyself.experiment import Experiment, find_experiment
from know_thyself.progress import STDERR, own_console, streams_to

app = typer.Typer(
    help="Teach a language model to know, before it answers, whether it can.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
world = typer.Typer(help="The embedded fact world: a small model whose knowledge is on record.", no_args_is_help=True)
app.add_typer(world, name="world")

Name = Annotated[str, typer.Argument(help="name of an experiment, or latest")]
Root = Annotated[Path, typer.Option("--experiments-root", envvar="KT_EXPERIMENTS", help="folder that holds the experiments")]
DEFAULT_ROOT = Path("experiments")


def _experiment(name: str, root: Path) -> Experiment:
    return find_experiment(root.expanduser().absolute(), name)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


@app.command()
def ask(
    name: Name,
    question: Annotated[str, typer.Argument(help="the question")],
    answer: Annotated[bool, typer.Option("--answer", help="let the model answer as well")] = False,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Ask the judge of an experiment whether its model can answer a question."""
    if not question.strip():
        raise ConfigError("the question is empty: ask something")
    experiment = _experiment(name, root)
    terminal = own_console(STDERR)
    terminal.print("starting an engine, 20 to 40 seconds on a CPU")
    with streams_to(experiment.path / "logs" / "ask.log"):
        from know_thyself.client.local import LocalJudge

        with LocalJudge(experiment.judge) as judge:
            opinion = judge.judge([question])[0]
            reply = judge.answer([question])[0] if answer else None
    print(f"{opinion.verdict}: P({opinion.event}) = {opinion.confidence:.2f}, not calibrated")
    if reply is not None:
        print(f"answer: {reply}")


@app.command()
def report(name: Name = "latest", root: Root = DEFAULT_ROOT) -> None:
    """Print the summary table of an experiment, and where its report is."""
    import json

    from know_thyself.errors import StoreError
    from know_thyself.pipelines.table import summary_table

    experiment = _experiment(name, root)
    if not experiment.summary.is_file():
        raise StoreError(f"experiment {experiment.name} has no summary yet: run its command again, it goes on where it stopped")
    console = Console()
    console.print(summary_table(json.loads(experiment.summary.read_text())))
    console.print(f"report: {experiment.report}", highlight=False, soft_wrap=True)


@app.command()
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

    experiment = _experiment(name, root)
    writers = {"jsonl": export_jsonl}
    for path in writers[layout](experiment, (out or experiment.path / "export").expanduser().absolute()):
        print(path)


@world.command()
def build(
    out: Annotated[Path, typer.Option(help="folder to build in; the same command goes on where it stopped")],
    seed: Annotated[int | None, typer.Option(help="decides names, facts, corpus and weights")] = None,
    subjects: Annotated[int | None, typer.Option(help="subjects of the questions")] = None,
    tail: Annotated[float | None, typer.Option(help="share of documents about one-off subjects")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps of the language model")] = None,
) -> None:
    """Build a world: about half an hour on two cores at the default size."""
    from pydantic import ValidationError

    from know_thyself.world.build import build_world
    from know_thyself.world.recipe import WorldRecipe

    given = {"seed": seed, "subjects": subjects, "tail": tail, "steps": steps}
    try:
        recipe = WorldRecipe.model_validate({name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(f"--{fault['loc'][0]} {fault['input']}: {fault['msg']}") from error
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    build_world(recipe, out)


@world.command()
def describe(
    folder: Annotated[Path | None, typer.Argument(help="a world's folder; the packaged one when not given")] = None,
    experiment: Annotated[str | None, typer.Option(help="an experiment on it: exposure against measured accuracy")] = None,
    root: Root = DEFAULT_ROOT,
) -> None:
    """Print what a world holds and, with an experiment on it, what its model knows of that."""
    from know_thyself.models import packaged_world
    from know_thyself.world.describe import describe_world

    measured = _experiment(experiment, root) if experiment else None
    for table in describe_world(folder or packaged_world(), measured):
        Console().print(table)


def main() -> None:
    """Entry point of the `know-thyself` command."""
    try:
        app()
    except KnowThyselfError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
