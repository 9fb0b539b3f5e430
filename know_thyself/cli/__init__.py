"""The human's command, `know-thyself`: a module per family of commands."""

from __future__ import annotations

import sys

import typer

from know_thyself import __version__
from know_thyself.cli.batch import batch
from know_thyself.cli.doctor import doctor
from know_thyself.cli.drift import drift
from know_thyself.cli.experiments import ask, compare, export, report
from know_thyself.cli.prompt import inspect_prompt
from know_thyself.cli.world import world
from know_thyself.errors import KnowThyselfError

app = typer.Typer(
    help="Teach a language model to know, before it answers, whether it can.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


app.command()(ask)
app.command()(report)
app.command()(compare)
app.command()(export)
app.command()(batch)
app.command()(doctor)
app.command()(drift)
app.command()(inspect_prompt)
app.add_typer(world, name="world")


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
