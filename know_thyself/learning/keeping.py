"""When a checkpoint is written inside an epoch: as often as the settings say, and from a notice on as often as is cheap.

A notice says that the workers may soon be stopped, as when the cloud takes a machine back. They go on taking steps until they
are, so that no time is lost, and of their steps at most those since the last checkpoint are taken again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from know_thyself.experiment.growing import flush
from know_thyself.learning.checkpoints import checkpoint_folder, seal
from know_thyself.learning.lesson import CHECKPOINTS, Lesson
from know_thyself.learning.state import write_state

Notice = Callable[[], float]
"""The share of the time that may go into checkpoints from now on, 0 without a notice. All workers call it alike."""
ASK_EVERY = 1.0
"""Seconds between two questions for a notice."""

logger = logging.getLogger(__name__)


def no_notice() -> float:
    """Nothing is known of any stop."""
    return 0.0


class Keeper:
    """Writes the checkpoints of `lesson`. The first worker's clock decides for all."""

    def __init__(self, engine: Any, lesson: Lesson, notice: Notice) -> None:
        self.lesson = lesson
        self._engine, self._notice = engine, notice
        self._asked = self._written = time.monotonic()
        self._seconds = 0.0
        self._is_first = torch.distributed.get_rank() == 0

    def keep(self, step: int, steps: int) -> None:
        """Write the state after `step` steps of the epoch, `steps` of all, if it is time to. All workers must call."""
        every = self.lesson.config.checkpoint_every
        if (every and step % every == 0) or self._is_urgent():
            began = time.monotonic()
            self._write(step, steps)
            self._written = time.monotonic()
            self._seconds = self._written - began

    def _is_urgent(self) -> bool:
        if not self._agreed(time.monotonic() - self._asked >= ASK_EVERY):
            return False
        self._asked = time.monotonic()
        share = self._notice()
        return share > 0.0 and self._agreed(self._seconds <= share * (time.monotonic() - self._written))

    def _agreed(self, said: bool) -> bool:
        """What the first worker said."""
        word = torch.tensor([said], dtype=torch.uint8, device=self._engine.device)
        torch.distributed.broadcast(word, src=0)
        return bool(word)

    def _write(self, step: int, steps: int) -> None:
        """Write the checkpoint, and vouch for it."""
        folder = Path(self.lesson.folder) / CHECKPOINTS
        if self._is_first:
            folder = checkpoint_folder(folder, step)
        write_state(self._engine, folder, steps)
        if self._is_first:
            flush()
            seal(folder)
