"""Engines that only pretend, and take time of their own."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from know_thyself.engine.protocol import Chat
from know_thyself.testing import FakeEngine

PAUSE = 0.05


class SlowEngine(FakeEngine):
    """Takes `PAUSE` seconds for every judgment, and none of the machine's cores, as one does on a machine of its own."""

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        """See `Engine.judge`."""
        time.sleep(PAUSE * len(chats))
        return super().judge(chats, words)
