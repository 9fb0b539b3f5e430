"""The errors a user can meet.

    KnowThyselfError
    ├── ConfigError      a setting is wrong or cannot be met
    ├── DataError        a file of questions, a row or a split is wrong
    │   └── HubError     a data set of the hub is out of reach
    ├── StoreError       the experiment folder cannot be used as it is
    ├── StageError       a stage failed; `stage` names it
    ├── EngineError      the language model failed
    ├── JudgeError       a judge folder is damaged, or made for another model
    └── RemoteError      a judgment service refused, failed, or is out of reach; `code` says which

The text of each holds the value and the remedy. All pickle, so that they cross Ray's process borders whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError


def first_line(error: BaseException) -> str:
    """The first line of what `error` says, its kind when it says nothing."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


class KnowThyselfError(Exception):
    """Base of all errors that have a remedy; the command line prints the text and exits with `exit_code`."""

    exit_code = 2


def in_a_line(error: BaseException) -> str:
    """`error` in one line; one that was not foreseen tells its kind as well."""
    return first_line(error) if isinstance(error, KnowThyselfError) else f"{type(error).__name__}: {first_line(error)}"


def said(message: str) -> str:
    """What a validator of ours said, without pydantic's words before it."""
    return message.removeprefix("Value error, ")


def first_fault(error: ValidationError) -> tuple[str, str]:
    """The place of the first thing that is wrong, empty where that is the whole, and what is wrong with it, never its value."""
    fault = error.errors()[0]
    return ".".join(map(str, fault["loc"])), said(fault["msg"])


class ConfigError(KnowThyselfError):
    """A setting is unknown, of the wrong type, or cannot be met together with another."""


class DataError(KnowThyselfError):
    """Questions cannot be read or cannot be used."""


class HubError(DataError):
    """A data set of the hub is out of reach: no network, or the hub does not answer."""


class StoreError(KnowThyselfError):
    """The experiment folder is locked, damaged, full or in the wrong place."""


class StageError(KnowThyselfError):
    """A stage failed for a reason that is not bad input."""

    exit_code = 1

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(stage, message)
        self.stage = stage

    def __str__(self) -> str:
        return f"{self.stage}: {self.args[1]}"


class EngineError(KnowThyselfError):
    """The language model could not be started, or failed while running."""

    exit_code = 1


class JudgeError(KnowThyselfError):
    """A judge folder is damaged, or bound to another model, prompt or setting."""


INTERNAL = "internal_error"
"""The code by which the service tells a fault of its own, which meets the same request again."""
UNREACHABLE = "unreachable"
UNREADABLE = "unreadable"
"""The codes of what no service answered, and of an answer of another shape than its."""
TOO_MANY = 429


class RemoteError(KnowThyselfError):
    """A judgment service refused a request, failed, or is out of reach.

    `code` is the service's, or "unreachable" or "unreadable"; `status` is that of its answer, None where there was none
    that could be read; `retry_after` the seconds after which it asks to be tried again.
    """

    exit_code = 1

    def __init__(self, message: str, code: str, status: int | None = None, retry_after: float | None = None) -> None:
        super().__init__(message, code, status, retry_after)
        self.code, self.status, self.retry_after = code, status, retry_after

    def __str__(self) -> str:
        return str(self.args[0])

    @property
    def is_passing(self) -> bool:
        """Whether the same request may well succeed later.

        So it may after whatever a proxy says of a replica that died, which is a 500, a 502 or a 504.
        """
        is_failure = self.status is not None and self.status >= 500 and self.code != INTERNAL
        return self.code == UNREACHABLE or self.status == TOO_MANY or is_failure
