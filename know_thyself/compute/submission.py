"""What Ray's record of a submitted job says of it: its experiment, and what it said last."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import ray
from ray._raylet import GcsClient  # type: ignore[attr-defined]
from ray.dashboard.modules.job.common import JOB_ID_METADATA_KEY, JobInfoStorageClient

from know_thyself.errors import first_line
from know_thyself.experiment import SUBMITTED

TELL_EVERY, PATIENCE = 5.0, 5
"""Seconds between two looks at what was said last, and those that Ray is given to read or to write the record."""
log = logging.getLogger(__name__)


@contextmanager
def keeping_record(experiment: str, last_line: Callable[[], str]) -> Iterator[None]:
    """Where this process is a submitted job, its record says `experiment` and, some seconds late, `last_line`, as metadata.

    It needs a Ray session. Ray has no public call for that: a record that cannot be kept is logged, and changes nothing else.
    """
    job = submission()
    if job is None:
        yield
        return
    over = threading.Event()
    teller = threading.Thread(target=_tell, args=(job, experiment, last_line, over), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join()


def submission() -> str | None:
    """The id under which this process was submitted; None where it was not."""
    found = _config().get("metadata", {}).get(JOB_ID_METADATA_KEY)
    return None if found is None else str(found)


def variables_submitted() -> Collection[str]:
    """The variables of the environment that this job was submitted with: its workers have them, and may not be told again."""
    names: Mapping[str, str] = _config().get("runtime_env", {}).get("env_vars", {})
    return names.keys()


def _config() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(os.environ.get(SUBMITTED, "{}"))
    return found


def _tell(job: str, experiment: str, last_line: Callable[[], str], over: threading.Event) -> None:
    said, unsaid, is_over = "", "", False
    while not is_over:
        is_over = over.wait(TELL_EVERY)
        if (line := last_line()) != said:
            try:
                asyncio.run(_put(job, {"experiment": experiment, "status": line}))
            except Exception as error:  # noqa: BLE001 - Ray promises nothing about this, and a job must not end of it
                if line != unsaid:
                    log.warning("the record of the job %s does not say %r: %s", job, line, first_line(error))
                unsaid = line
            else:
                said = line


async def _put(job: str, told: dict[str, str]) -> None:
    records = JobInfoStorageClient(GcsClient(address=ray.get_runtime_context().gcs_address))
    info = await records.get_info(job, timeout=PATIENCE)
    if info is not None and not info.status.is_terminal():  # what Ray says of its end stands
        await records.put_info(job, replace(info, metadata={**(info.metadata or {}), **told}), timeout=PATIENCE)
