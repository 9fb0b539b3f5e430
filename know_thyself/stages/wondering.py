"""Wonder: questions that a model asks itself, and its answers. Nobody wrote them: the model goes on with a user's turn.

So aligned models were made to write their own instructions (Xu et al. 2024, "Magpie", arXiv:2406.08464).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from know_thyself import prompts
from know_thyself.compute.session import quiet_worker
from know_thyself.engine.pool import Pool, start_engine, trial_seed
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, Reply
from know_thyself.experiment import StageFolder
from know_thyself.experiment.usage import Meter
from know_thyself.types import Finish, ModelRef, Question, StageDone

WONDERED = pa.schema([("id", pa.string()), ("question", pa.string()), ("reply", pa.string())])
"""One row per question; one that came to nothing or to no end, or that had no such answer, is empty."""
WONDERING = Decoding(num_trials=1, temperature=1.0, top_p=1.0, max_tokens=64)
"""How questions are drawn: as the model would, neither the likeliest nor the oddest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wonder:
    """Who wonders: `model`, that answers its own questions by `decoding`, one answer each."""

    model: ModelRef
    decoding: Decoding
    seed: int
    backend: str
    max_model_len: int
    encoding: str

    def settings(self) -> dict[str, Any]:
        """All that decides the stage's content."""
        decoding = self.decoding
        settings: dict[str, Any] = {"prompt_version": prompts.PROMPT_VERSION, "backend": self.backend, "seed": self.seed}
        settings |= {"model": self.model.digest, "max_model_len": self.max_model_len, "encoding": self.encoding}
        return settings | {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}


class Wonderer:
    """The actor: one engine that asks and answers itself. What it uses it tells in the stage's `folder`."""

    def __init__(self, task: Wonder, engine: EngineSpec, folder: str, logs: str) -> None:
        quiet_worker(Path(logs) / f"engine-{os.getpid()}.log")
        self._task, self._meter = task, Meter(Path(folder))
        self._engine = start_engine(task.backend, engine, task.model)
        self._engine.use(task.model)
        self._meter.tell("start")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """A row of `WONDERED` for each row of `batch`."""
        task, names = self._task, batch["id"].to_pylist()
        seeds, before = [trial_seed(name, task.seed) for name in names], self._engine.tokens_read
        opened = [prompts.wonder_messages()] * len(names)
        asked = self._engine.go_on(opened, seeds, WONDERING)
        questions = [_first_line(said) for (said,) in asked]
        chats = [prompts.answer_messages(Question(id=n, text=q, answers=())) for n, q in zip(names, questions, strict=True)]
        answered = self._engine.sample(chats, seeds, replace(task.decoding, num_trials=1))
        self._tell(opened, chats, [*asked, *answered], self._engine.tokens_read - before)
        replies = [said.text.strip() if said.finish == Finish.STOP else "" for (said,) in answered]
        return pa.table({"id": names, "question": questions, "reply": replies}, schema=WONDERED)

    def _tell(self, opened: Sequence[Chat], chats: Sequence[Chat], said: Sequence[Sequence[Reply]], read: int) -> None:
        self._meter.tell(
            "sample",
            questions=len(chats),
            answers=len(said),
            characters=sum(len(turn["content"]) for chat in (*opened, *chats) for turn in chat),
            read=read,
            written=sum(reply.num_tokens for (reply,) in said),
        )


def _first_line(said: Reply) -> str:
    line, more, _ = said.text.strip().partition("\n")
    return line.strip() if more or said.finish == Finish.STOP else ""


def wonder(folder: StageFolder, blanks: StageFolder, count: int, task: Wonder, pool: Pool, logs: Path) -> StageDone:
    """Fill the `count` rows of `blanks`, of which each has an id, with questions and answers by `task` into `folder`."""
    return pool.send(blanks, count, Wonderer, task, folder, logs)
