"""What does our DeepSpeed loop cost over a bare torch loop, and what does the HF Trainer take, in time and memory?

    python -m benchmarks.train

One model with one adapter, the same examples in the same batches; the steps of the three ways take turns, each way in a process
of its own. The bare loop reads the verdict at one position as ours does, from tensors made beforehand. The HF Trainer teaches
the verdict's word with all logits of every position. Ours and the bare loop must come to the same losses.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import ray

from benchmarks.asking import CORES, WORDS, session, start
from benchmarks.models import world_model, world_questions, write_random_model
from benchmarks.results import Row, median, peak_memory, report
from know_thyself import prompts
from know_thyself.config import TrainConfig
from know_thyself.engine.fitting import Window, fit_contexts
from know_thyself.learning.lesson import Lesson
from know_thyself.learning.zero import batch_settings
from know_thyself.types import LabelMode, PromptStyle, Question

CASE, STEPS, ROUNDS, RATE = "train", 2, 3, 1e-3
CLOSE = 1e-3
"""How far the losses of a step may lie apart."""
SMALL, LARGE = 1024, 151_936
LONG = 900
"""Tokens of a prompt as long as those of HotpotQA."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """A model's vocabulary, the tokens of a prompt (None: a bare question), and the examples of a step and a forward pass."""

    vocabulary: int
    longest: int | None
    batch: int
    micro: int

    @property
    def name(self) -> str:
        """What the table calls it."""
        model = "world, vocabulary 1 k" if self.vocabulary == SMALL else "12 × 512, vocabulary 152 k"
        return f"{model}, {'short' if self.longest is None else 'long'} prompts"


SIZES = (
    Size(vocabulary=SMALL, longest=None, batch=32, micro=32),
    Size(vocabulary=SMALL, longest=LONG, batch=8, micro=4),
    Size(vocabulary=LARGE, longest=None, batch=32, micro=32),
    Size(vocabulary=LARGE, longest=LONG, batch=2, micro=2),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Class:
    """What is taught: by which lesson, which prompts, as tokens, and the place of the right word among the verdict words."""

    lesson: Lesson
    prompts: Sequence[Sequence[int]]
    verdicts: Sequence[int]
    words: tuple[int, ...]

    @property
    def parts(self) -> int:
        """The forward passes of a step."""
        return int(batch_settings(self.lesson.config, 1)["gradient_accumulation_steps"])

    def batch(self, number: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The examples of step `number`."""
        size = self.lesson.config.batch_size
        return np.arange(number * size, (number + 1) * size) % len(self.prompts)


class Way:
    """A way to take the steps, in a process of its own."""

    def peak(self) -> int:
        """This process's peak memory in bytes."""
        return peak_memory()


class Ours(Way):
    """The loop of `know_thyself.learning`, on a group of one."""

    def __init__(self, taught: Class, scratch: str) -> None:
        _prepare(taught.lesson)
        import torch

        from know_thyself.learning.examples import Example, Examples
        from know_thyself.learning.objectives import VerdictObjective
        from know_thyself.learning.partition import deepspeed_session, start_deepspeed
        from know_thyself.learning.state import read_state
        from know_thyself.learning.tuning import open_tuning

        os.environ |= {"RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
        torch.distributed.init_process_group("gloo", init_method=f"file://{scratch}/store-{os.getpid()}", rank=0, world_size=1)
        lesson = taught.lesson
        self._taught = taught
        self._session = deepspeed_session(lesson)
        settings = self._session.__enter__()
        objective = VerdictObjective(open_tuning(lesson).causal, taught.words)
        self._engine = start_deepspeed(objective, lesson, settings)
        read_state(self._engine, None)
        targets = [[float(place == verdict) for place in range(len(taught.words))] for verdict in taught.verdicts]
        pairs = zip(taught.prompts, targets, strict=True)
        self._examples = Examples([Example(tokens=list(ids), target=target, weight=1.0) for ids, target in pairs])

    def steps(self, first: int, count: int) -> tuple[list[float], list[float]]:
        """Seconds and loss of each of `count` steps from `first` on."""
        from know_thyself.learning.loop import take_step

        return _timed(lambda n: take_step(self._engine, self._examples, self._taught.batch(n), RATE, (0, 1, n)), first, count)


class BareLoop(Way):
    """The limit: plain torch on padded tensors made beforehand, and the verdict words' logits alone."""

    def __init__(self, taught: Class, scratch: str) -> None:
        _prepare(taught.lesson)
        import torch

        from know_thyself.learning.tuning import open_tuning

        self._taught, self._causal = taught, open_tuning(taught.lesson).causal
        self._learning = [p for p in self._causal.parameters() if p.requires_grad]
        self._optimizer = torch.optim.AdamW(self._learning, lr=RATE, weight_decay=0.0)
        self._words = torch.tensor(taught.words)
        self._batches = [self._tensors(number) for number in range(ROUNDS * STEPS + 1)]
        self._causal.train()

    def _tensors(self, number: int) -> list[tuple[Any, Any, Any]]:
        import torch

        parts, taught = [], self._taught
        for part in np.split(taught.batch(number), taught.parts):
            tokens = [torch.tensor(taught.prompts[i]) for i in part]
            padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
            last, right = torch.tensor([len(ids) - 1 for ids in tokens]), torch.tensor([taught.verdicts[i] for i in part])
            parts.append((padded, last, right))
        return parts

    def steps(self, first: int, count: int) -> tuple[list[float], list[float]]:
        """See `Ours.steps`."""
        return _timed(self._step, first, count)

    def _step(self, number: int) -> float:
        import torch

        size, summed = self._taught.lesson.config.batch_size, 0.0
        for tokens, last, right in self._batches[number]:
            hidden = self._causal.get_decoder()(input_ids=tokens, use_cache=False).last_hidden_state
            read = hidden[torch.arange(len(tokens)), last] @ self._causal.lm_head.weight[self._words].T
            loss = torch.nn.functional.cross_entropy(read, right, reduction="sum")
            (loss / size).backward()
            summed += loss.item()
        torch.nn.utils.clip_grad_norm_(self._learning, self._taught.lesson.config.clip)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return summed / size


class HfTrainer(Way):
    """The Trainer of transformers on the same adapter; each example is its prompt and the right word."""

    def __init__(self, taught: Class, scratch: str) -> None:
        _prepare(taught.lesson)
        from know_thyself.learning.tuning import open_tuning

        self._taught, self._scratch = taught, scratch
        self._tuning: Any = open_tuning(taught.lesson)
        pairs = zip(taught.prompts, taught.verdicts, strict=True)
        self._rows = [
            {
                "input_ids": [*ids, taught.words[verdict]],
                "attention_mask": [1] * (len(ids) + 1),
                "labels": [-100] * len(ids) + [taught.words[verdict]],
            }
            for ids, verdict in pairs
        ]

    def steps(self, first: int, count: int) -> tuple[list[float], list[float]]:
        """See `Ours.steps`; here without losses. A step more is taken to start up, and not counted."""
        from transformers import AutoTokenizer, DataCollatorForSeq2Seq, Trainer, TrainerCallback, TrainingArguments

        config, moments = self._taught.lesson.config, list[float]()

        class Clock(TrainerCallback):
            def on_step_end(self, *_: Any, **__: Any) -> None:
                moments.append(time.perf_counter())

        settings = TrainingArguments(
            output_dir=f"{self._scratch}/trainer",
            per_device_train_batch_size=config.batch_size // self._taught.parts,
            gradient_accumulation_steps=self._taught.parts,
            max_steps=count + 1,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            max_grad_norm=config.clip,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
        )
        tokenizer = AutoTokenizer.from_pretrained(self._taught.lesson.base)
        collator = DataCollatorForSeq2Seq(tokenizer, padding=True)
        trainer = Trainer(
            model=self._tuning.adapted,
            args=settings,
            train_dataset=self._rows,
            data_collator=collator,
            callbacks=[Clock()],
        )
        trainer.train()
        return [float(seconds) for seconds in np.diff(moments)], []


def _prepare(lesson: Lesson) -> None:
    import torch

    torch.set_num_threads(lesson.cores)


def _timed(step: Any, first: int, count: int) -> tuple[list[float], list[float]]:
    seconds, losses = [], []
    for number in range(first, first + count):
        began = time.perf_counter()
        losses.append(step(number))
        seconds.append(time.perf_counter() - began)
    return seconds, losses


def run() -> Iterator[Row]:
    """All comparisons in all sizes."""
    with tempfile.TemporaryDirectory() as scratch:
        large = write_random_model(Path(scratch) / "model", vocabulary=LARGE)
        with session():
            for size in SIZES:
                model = large if size.vocabulary == LARGE else world_model()
                yield from _compare(size, _taught(size, model), scratch)


def _taught(size: Size, model: str) -> Class:
    from know_thyself.engine.chat import ChatTokenizer

    chat = ChatTokenizer(model)
    questions: Sequence[Question] = world_questions(size.batch * (ROUNDS * STEPS + 1))
    if size.longest is not None:
        context = " ".join(question.text for question in questions[:20]) * (1 + LONG // 100)
        told = [replace(question, context=context) for question in questions]
        window = Window(max_model_len=size.longest, max_tokens=16, style=PromptStyle.SYSTEM, mode=LabelMode.BINARY)
        questions, _ = fit_contexts(told, chat, window)
    config = TrainConfig(batch_size=size.batch, micro_batch_size=size.micro, learning_rate=RATE)
    lesson = Lesson(
        base=model,
        folder="",
        parent=None,
        config=config,
        tuning="lora",
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        seed=0,
        epoch=1,
        device="cpu",
        cores=CORES,
        logs="",
        trust_remote_code=False,
        prefill=None,
        deepspeed={},
    )
    chats = [prompts.judge_messages(question, PromptStyle.SYSTEM, LabelMode.BINARY) for question in questions]
    verdicts = [number % len(WORDS) for number in range(len(questions))]
    return Class(lesson=lesson, prompts=chat.encode_all(chats), verdicts=verdicts, words=chat.word_tokens(WORDS))


def _compare(size: Size, taught: Class, scratch: str) -> Iterator[Row]:
    ways = [start(way, taught, scratch)[0] for way in (Ours, BareLoop, HfTrainer)]
    seconds: list[list[float]] = [[] for _ in ways]
    losses: list[list[float]] = [[] for _ in ways]
    for way in ways[:2]:
        ray.get(way.steps.remote(0, 1))
    for number in range(ROUNDS):
        for way, taken, lost in zip(ways, seconds, losses, strict=True):
            more, given = ray.get(way.steps.remote(1 + number * STEPS, STEPS))
            taken.extend(more)
            lost.extend(given)
    peaks = [ray.get(way.peak.remote()) / 2**20 for way in ways]
    for way in ways:
        ray.kill(way)
    _check_same(losses[0], losses[1])
    pace = [size.batch / median(taken) for taken in seconds]

    def row(against: str, place: int, target: float | None) -> Row:
        return Row(
            case=CASE, size=size.name, against=against, ours=pace[0], theirs=pace[place], unit="examples/s", target=target
        )

    def memory(against: str, place: int, target: float | None) -> Row:
        return Row(
            case=CASE,
            size=size.name,
            against=f"{against}, peak memory",
            ours=peaks[0],
            theirs=peaks[place],
            unit="MiB",
            target=target,
            less_is_better=True,
        )

    yield row("bare torch loop", 1, 0.9)
    yield memory("bare torch loop", 1, 1.2)
    is_large = size.vocabulary == LARGE
    yield row("HF Trainer, full logits", 2, 2 if is_large else None)
    yield memory("HF Trainer, full logits", 2, 0.5 if is_large else None)


def _check_same(ours: Sequence[float], theirs: Sequence[float]) -> None:
    """Raise `ValueError` unless both loops came to the same losses."""
    apart = max(abs(a - b) for a, b in zip(ours, theirs, strict=True))
    if apart > CLOSE:
        raise ValueError(f"losses are apart by {apart:.1e}: the two loops do not teach alike")


if __name__ == "__main__":
    report(CASE, run)
