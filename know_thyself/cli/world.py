"""Commands on the embedded fact world: `world build`, `world describe`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from know_thyself.cli.experiments import DEFAULT_ROOT, Root, named_experiment
from know_thyself.errors import ConfigError

world = typer.Typer(help="The embedded fact world: a small model whose knowledge is on record.", no_args_is_help=True)


@world.command()
def build(
    out: Annotated[Path, typer.Option(help="folder to build in; the same command goes on where it stopped")],
    seed: Annotated[int | None, typer.Option(help="decides names, facts, corpus and weights")] = None,
    subjects: Annotated[int | None, typer.Option(help="subjects of the questions")] = None,
    tail: Annotated[float | None, typer.Option(help="share of documents about one-off subjects")] = None,
    shortcut: Annotated[float | None, typer.Option(help="share of subjects whose name tells how well they are known")] = None,
    spellings: Annotated[int | None, typer.Option(help="accepted spellings (aliases) of each answer, 1 to 3")] = None,
    context: Annotated[float | None, typer.Option(help="share of questions asked with paragraphs to read")] = None,
    steps: Annotated[int | None, typer.Option(help="optimiser steps of the language model")] = None,
    layers: Annotated[int | None, typer.Option(help="layers of the language model")] = None,
    width: Annotated[int | None, typer.Option(help="width of the language model, a multiple of 48")] = None,
) -> None:
    """Build a world: about half an hour on two cores at the default size, on a GPU where there is one."""
    given = {name: value for name, value in locals().items() if name != "out" and value is not None}
    from pydantic import ValidationError

    from know_thyself.world.build import build_world
    from know_thyself.world.recipe import WorldRecipe

    try:
        recipe = WorldRecipe.model_validate(given)
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

    measured = named_experiment(experiment, root) if experiment else None
    for table in describe_world(folder or packaged_world(), measured):
        Console().print(table)
