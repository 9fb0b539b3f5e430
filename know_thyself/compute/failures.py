"""What the failures that Ray brings back from its workers mean to a user."""

from __future__ import annotations

import re

from know_thyself.errors import KnowThyselfError, StageError, first_line
from know_thyself.experiment import StageFolder
from know_thyself.experiment.place import address
from know_thyself.experiment.writing import FULL_DISK, no_space, system_error

FAULT = re.compile(r"^[\w.]+(Error|Exception|Died)\b.*: ")


def failure(folder: StageFolder, error: Exception, logs: str) -> KnowThyselfError:
    """The error to raise for the `error` of the work on `folder`: what a worker found to tell, a full disk, or what failed."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, KnowThyselfError):
        return cause
    reason = _reason(error)
    if system_error(reason) in FULL_DISK:
        return no_space(folder.path)
    return StageError(folder.stage, f"{reason}: see {address(logs)}, and run the same command to go on")


def _reason(error: Exception) -> str:
    """What went wrong in the worker: the last line of `error` that names an exception of ours or of a library, not of Ray."""
    lines = [line.strip() for line in str(error).splitlines()]
    faults = [line for line in lines if FAULT.match(line) and "UserCodeException" not in line]
    return faults[-1] if faults else first_line(error)
