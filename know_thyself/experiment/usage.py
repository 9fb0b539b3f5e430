"""What the stages of an experiment used: time on engines and training workers, and tokens, told by each process as it works.

Below a stage's folder, `_used/` holds a file for each process, which grows line by line: a process that dies leaves what it has
told. None of it is content of the stage, whose digests know nothing of time.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal
from uuid import uuid4

from know_thyself.experiment.growing import keep
from know_thyself.experiment.place import pull
from know_thyself.experiment.writing import storing
from know_thyself.types import Record

USED = "_used"
Act = Literal["start", "sample", "judge", "train", "probe"]
ACTS: tuple[Act, ...] = ("start", "sample", "judge", "train", "probe")
"""What a device is held for: being made ready, answering, judging, training, and reading the untrained model for baselines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Use(Record):
    """What was used: seconds of a device, for so many questions (in training, examples), answers, characters and tokens.

    `characters` are those of the texts that the tokens `read` were made of, the template's own aside; `written` tokens were
    generated. `times` counts how often.
    """

    seconds: float = 0.0
    times: int = 1
    questions: int = 0
    answers: int = 0
    characters: int = 0
    read: int = 0
    written: int = 0


def total(uses: Iterable[Use]) -> Use:
    """The sum of `uses`."""
    rows = [use.to_row() for use in uses]
    return Use(**{field.name: sum(row[field.name] for row in rows) for field in fields(Use)})


class Meter:
    """What one process uses for the stage in the folder `stage`, from now on."""

    def __init__(self, stage: Path) -> None:
        self._file, self._last = stage / USED / f"{uuid4().hex}.jsonl", time.monotonic()
        keep(self._file)

    def tell(
        self, act: Act, *, questions: int = 0, answers: int = 0, characters: int = 0, read: int = 0, written: int = 0
    ) -> None:
        """Write down that all the time since the last call went into `act`. Raises `StoreError` on a full disk."""
        now = time.monotonic()
        use = Use(
            seconds=round(now - self._last, 4),
            questions=questions,
            answers=answers,
            characters=characters,
            read=read,
            written=written,
        )
        self._last = now
        with storing(self._file):
            self._file.parent.mkdir(parents=True, exist_ok=True)
            with self._file.open("a") as file:
                file.write(json.dumps({"act": act, **use.to_row()}) + "\n")


def used_by(experiment: Path) -> dict[Act, Use]:
    """What all attempts at the stages of `experiment` used, by act, the acts that never were left out.

    Work that was lost and done again is in it, and so is a device's waiting; not its time after its last batch or step.
    """
    told: dict[Act, list[Use]] = {act: [] for act in ACTS}
    files = f"*/{USED}/*.jsonl"
    for file in sorted(pull(experiment / "stages", files, exact=False).glob(files)):
        whole = file.read_text().rpartition("\n")[0]  # a process may have died within its last line
        for line in whole.splitlines():
            row = json.loads(line)
            told[row["act"]].append(Use.from_row(row))
    return {act: total(uses) for act, uses in told.items() if uses}
