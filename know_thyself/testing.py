"""Fakes with the face of the real thing, for tests and simulations; no figure of theirs is a model's.

`FakeEngine` answers like a model that knows each question to a degree fixed by the question's hash, and judges with a noise
that the weights in use decide. Same question, seed and weights: same output, wherever and in whatever order it runs.
`KT_FAKE_*` variables make it slow or make it fail, so that faults can be ordered from outside the process.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, Reply
from know_thyself.types import Finish, ModelRef


def _unit(*parts: object) -> float:
    """A number in [0, 1) that is a fixed function of `parts`."""
    digest = hashlib.sha256("\x1f".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def knows(question: str) -> float:
    """How likely the fake answers `question` right: a third never, a third always, a third in between."""
    return float(np.clip(3 * _unit("knows", question) - 1, 0.0, 1.0))


def fake_answer(question: str) -> str:
    """The answer that the fake takes for right; questions for it are made with this as accepted answer."""
    return f"value {hashlib.sha256(question.encode()).hexdigest()[:6]}"


class FakeEngine:
    """An `Engine` without a model, that the environment gives orders to.

    `KT_FAKE_DELAY`: seconds per chat. `KT_FAKE_KILL`: a file; while it exists, the first engine to sample removes it and dies
    by SIGKILL. `KT_FAKE_POISON`: a question at which every engine dies.
    """

    def __init__(self, spec: EngineSpec) -> None:
        self._model = ModelRef(name=spec.base)
        self._delay = float(os.environ.get("KT_FAKE_DELAY", "0"))
        self._order = os.environ.get("KT_FAKE_KILL")
        self._poison = os.environ.get("KT_FAKE_POISON")

    def use(self, model: ModelRef) -> None:
        """See `Engine.use`."""
        self._model = model

    def sample(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """See `Engine.sample`."""
        self._obey(chats)
        time.sleep(self._delay * len(chats))
        return [
            [self._reply(_asked(chat), seed + trial) for trial in range(decoding.num_trials)]
            for chat, seed in zip(chats, seeds, strict=True)
        ]

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        """See `Engine.judge`."""
        read = np.empty((len(chats), len(words)))
        for row, chat in zip(read, chats, strict=True):
            question = _asked(chat)
            noise = _unit("noise", question, self._model.digest)
            can = 0.02 + 0.96 * (0.5 * knows(question) + 0.5 * noise)
            row[:] = np.log(_spread(can, len(words)))
        return read

    def _reply(self, question: str, seed: int) -> Reply:
        right = _unit("trial", question, seed) < knows(question)
        return Reply(text=fake_answer(question) if right else "something else", finish=Finish.STOP, num_tokens=3)

    def _obey(self, chats: Sequence[Chat]) -> None:
        is_ordered = self._order is not None and Path(self._order).exists()
        if self._order is not None:
            Path(self._order).unlink(missing_ok=True)
        if is_ordered or any(_asked(chat) == self._poison for chat in chats):
            os.kill(os.getpid(), signal.SIGKILL)


def _spread(can: float, num_words: int) -> list[float]:
    """Shares of the words, from most able to least, of one who is so sure: binomial, so that the middle word is for halves."""
    last = num_words - 1
    return [math.comb(last, place) * can ** (last - place) * (1 - can) ** place for place in range(num_words)]


def _asked(chat: Chat) -> str:
    """The question at the end of `chat`'s last turn."""
    return chat[-1]["content"].rpartition("Question: ")[2]
