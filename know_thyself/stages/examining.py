"""Examine: one pass of engines over questions that writes trials, judgments or both. The only stage that does inference."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from know_thyself import prompts
from know_thyself.compute.session import quiet_worker
from know_thyself.engine.pool import Pool, start_engine, trial_seed
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec, verdict_shares
from know_thyself.experiment import StageFolder
from know_thyself.experiment.usage import Meter
from know_thyself.types import LabelMode, ModelRef, PromptStyle, Question, StageDone, Trial

TRIAL = pa.struct(
    [("index", pa.int64()), ("seed", pa.int64()), ("text", pa.string()), ("finish", pa.string()), ("num_tokens", pa.int64())]
)
EXAMINED = pa.schema(
    [("id", pa.string()), ("trials", pa.list_(TRIAL)), ("probabilities", pa.list_(pa.float64())), ("mass", pa.float64())]
)
"""One row per question. `trials` is null where nothing was sampled, `probabilities` and `mass` where nothing was judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What to ask of the questions: `answerer` samples trials, `judge` judges; either may be left out.

    `encoding` is the digest of what makes tokens of a chat: template, prefill, tokenizer.
    """

    answerer: ModelRef | None
    judge: ModelRef | None
    decoding: Decoding
    style: PromptStyle
    mode: LabelMode
    seed: int
    backend: str
    max_model_len: int
    encoding: str

    def settings(self) -> dict[str, Any]:
        """All that decides the stage's content."""
        settings: dict[str, Any] = {"prompt_version": prompts.PROMPT_VERSION}
        settings |= {"backend": self.backend, "max_model_len": self.max_model_len, "encoding": self.encoding}
        if self.answerer:
            decoding = self.decoding
            settings |= {"answerer": self.answerer.digest, "seed": self.seed, "num_trials": decoding.num_trials}
            settings |= {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
        if self.judge:
            settings |= {"judge": self.judge.digest, "style": str(self.style), "mode": str(self.mode)}
        return settings


class Examiner:
    """The actor: one engine, asked batch by batch. What it uses it tells in the stage's `folder`."""

    def __init__(self, task: Task, engine: EngineSpec, folder: str, logs: str) -> None:
        quiet_worker(Path(logs) / f"engine-{os.getpid()}.log")
        self._task, self._meter = task, Meter(Path(folder))
        self._engine = start_engine(task.backend, engine, task.answerer, task.judge)
        self._meter.tell("start")

    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of `EXAMINED` for the questions of `batch`."""
        questions = [Question.from_row(row) for row in batch.to_pylist()]
        columns = {"id": [question.id for question in questions], **self._trials(questions), **self._judgments(questions)}
        return pa.table(columns, schema=EXAMINED)

    def _trials(self, questions: Sequence[Question]) -> dict[str, list[Any]]:
        task = self._task
        if task.answerer is None:
            return {"trials": [None] * len(questions)}
        self._engine.use(task.answerer)
        seeds = [trial_seed(question.id, task.seed) for question in questions]
        chats, before = [prompts.answer_messages(question) for question in questions], self._engine.tokens_read
        replies = self._engine.sample(chats, seeds, task.decoding)
        trials = [
            [
                Trial(
                    question_id=question.id,
                    index=i,
                    seed=seed + i,
                    text=reply.text,
                    finish=reply.finish,
                    num_tokens=reply.num_tokens,
                ).to_row()
                for i, reply in enumerate(given)
            ]
            for question, seed, given in zip(questions, seeds, replies, strict=True)
        ]
        self._meter.tell(
            "sample",
            questions=len(questions),
            answers=sum(map(len, replies)),
            characters=_characters(chats),
            read=self._engine.tokens_read - before,
            written=sum(reply.num_tokens for given in replies for reply in given),
        )
        return {"trials": [[{name: trial[name] for name in TRIAL.names} for trial in row] for row in trials]}

    def _judgments(self, questions: Sequence[Question]) -> dict[str, list[Any]]:
        task = self._task
        if task.judge is None:
            return {"probabilities": [None] * len(questions), "mass": [None] * len(questions)}
        self._engine.use(task.judge)
        chats = [prompts.judge_messages(question, task.style, task.mode) for question in questions]
        before = self._engine.tokens_read
        read = self._engine.judge(chats, list(prompts.VERDICT_WORDS[task.mode].values()))
        mass = np.exp(read).sum(axis=1)
        shares = verdict_shares(read)
        readable = np.isfinite(mass)
        tokens = self._engine.tokens_read - before
        self._meter.tell("judge", questions=len(questions), characters=_characters(chats), read=tokens)
        return {
            "probabilities": [row.tolist() if ok else None for row, ok in zip(shares, readable, strict=True)],
            "mass": [float(m) if ok else None for m, ok in zip(mass, readable, strict=True)],
        }


def _characters(chats: Sequence[Chat]) -> int:
    return sum(len(message["content"]) for chat in chats for message in chat)


def examine(folder: StageFolder, questions: StageFolder, num_questions: int, task: Task, pool: Pool, logs: Path) -> StageDone:
    """Examine the committed `questions` with `task` into `folder`."""
    return pool.send(questions, num_questions, Examiner, task, folder, logs)
