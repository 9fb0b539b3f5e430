"""The command for files of requests: `batch`."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from know_thyself.errors import ConfigError, DataError, StoreError

if TYPE_CHECKING:
    import httpx2

    from know_thyself.client import AsyncKnowThyself
    from know_thyself.client.batch import BatchLine

KEY = "KT_API_KEY"
ROOT = Path(__file__).parents[2]
"""Where the service's code is beside the library, which alone is installed."""


def batch(
    source: Annotated[Path, typer.Option("--input", "-i", help="JSON Lines of {custom_id, method, url, body}")],
    target: Annotated[Path, typer.Option("--output", "-o", help="where the result lines go; a file that is there is kept")],
    url: Annotated[str | None, typer.Option(help=f"a judgment service; ${KEY} holds the key, if it wants one")] = None,
    judge: Annotated[Path | None, typer.Option(help="or the folder of a judge, on an engine of this process")] = None,
    timeout: Annotated[float, typer.Option(min=0.1, help="seconds for one line with all its tries")] = 60.0,
) -> None:
    """Answer a file of requests line by line, in the format of OpenAI's and vLLM's batches."""
    from know_thyself.client import AsyncKnowThyself
    from know_thyself.client.batch import read_lines

    if (url is None) == (judge is None):
        raise ConfigError("batch asks either a service or a judge: give one of --url and --judge")
    if target.exists():
        raise StoreError(f"{target} is there already and is kept: give another --output")
    try:
        lines = read_lines(source.read_bytes())
    except OSError as error:
        raise DataError(f"{source} cannot be read ({error.strerror}): give a file of JSON Lines") from error
    if url is not None:
        answered = asyncio.run(_write(lines, AsyncKnowThyself(url, os.environ.get(KEY), timeout), target))
    else:
        assert judge is not None
        with _service_of(judge) as transport:
            client = AsyncKnowThyself("http://judge", timeout=timeout, transport=transport)
            answered = asyncio.run(_write(lines, client, target))
    print(f"{answered} of {len(lines)} lines answered: {target}", file=sys.stderr)


async def _write(lines: list[BatchLine], client: AsyncKnowThyself, target: Path) -> int:
    """Write the results of `lines` to the new file `target` as they come; how many were answered."""
    from know_thyself.client.batch import answers
    from know_thyself.experiment.writing import minding_space

    answered = 0
    try:
        with minding_space(target), target.open("x") as file:
            async with client:
                async for result in answers(lines, client):
                    file.write(json.dumps(result.model_dump()) + "\n")
                    answered += result.is_answered
    except OSError as error:
        raise StoreError(f"cannot write {target}: {error.strerror or error}: give another --output") from error
    return answered


@contextmanager
def _service_of(judge: Path) -> Iterator[httpx2.AsyncBaseTransport]:
    """A judgment service of this process on the judge in the folder `judge`, under the policy that it comes with.

    Raises `ConfigError` where its code is not there, as in an environment that has the library alone, and `JudgeError`.
    """
    import httpx2

    if not (ROOT / "serve").is_dir():
        raise ConfigError("--judge takes the code of the service, which is not installed: use the repository's, or give --url")
    sys.path.insert(0, str(ROOT))
    from serve.api import create_app
    from serve.startup import Settings, read_plan, started

    plan = read_plan(Settings(judge=judge))
    print("starting an engine, 20 to 40 seconds on a CPU", file=sys.stderr)
    with started(plan.folder) as asked:
        yield httpx2.ASGITransport(create_app(asked, plan.policy, plan.keys), raise_app_exceptions=False)
