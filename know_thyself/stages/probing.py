"""Probe: what the untrained model shows of itself in plain forward passes, for the baselines that a judge is held against.

One worker reads all of it, so that the model is loaded once: hidden states where the judge looks, the greedy answer with its
first token's entropy and its mean log-probability, whether the model calls that answer right, and a number that it states.
"""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from transformers import AutoModelForCausalLM, GenerationConfig

from know_thyself import prompts
from know_thyself.compute.session import quiet_worker
from know_thyself.compute.tables import Workers, run_table_stage
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.protocol import Chat
from know_thyself.experiment import StageFolder
from know_thyself.experiment.usage import Meter
from know_thyself.models import bring
from know_thyself.types import LabelMode, PromptStyle, Question, StageDone

NUMBERS = ("entropy", "log_probability", "p_true")
COSTS = ("answer_tokens", "number_tokens", "judge_seconds", "answer_seconds", "truth_seconds", "number_seconds")
PROBED = pa.schema(
    [
        ("id", pa.string()),
        ("layers", pa.int64()),
        ("states", pa.string()),
        ("answer", pa.string()),
        ("number", pa.string()),
        *((name, pa.float64()) for name in (*NUMBERS, *COSTS)),
    ]
)
"""One row per question. `states` are those of each of `layers`, the lowest first: see `unpack_states`. `entropy` is in nats,
`log_probability` the mean over the answer's tokens, `p_true` of yes against no, `number` the reply to the request for one.
Seconds are the question's share of its batch's time. All but `id` are null where a prompt is too long for the model."""
NUMBER_TOKENS = 8
YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Which model is read, and how it is asked. `layers` is how many are read at most."""

    base: str
    digest: str
    encoding: str
    prefill: str | None
    trust_remote_code: bool
    style: PromptStyle
    mode: LabelMode
    layers: int
    max_tokens: int
    max_model_len: int
    device: str

    def settings(self) -> dict[str, Any]:
        """All that decides the stage's content, but for the times."""
        versions = {"prompt_version": prompts.PROMPT_VERSION, "probe_version": prompts.PROBE_VERSION}
        asked = {"style": str(self.style), "mode": str(self.mode), "layers": self.layers}
        lengths = {"max_tokens": self.max_tokens, "max_model_len": self.max_model_len}
        return {**versions, **asked, **lengths, "base": self.digest, "encoding": self.encoding}


class _Batch(NamedTuple):
    """Prompts padded on the left, so that each ends in the last column: tokens, mask and positions `[batch, time]`."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    position_ids: torch.Tensor


class Prober:
    """The actor: one model, read batch by batch. What it uses it tells in the stage's `folder`."""

    def __init__(self, probe: Probe, cores: int, folder: str, logs: str) -> None:
        quiet_worker(Path(logs) / f"probe-{os.getpid()}.log")
        self._probe, self._meter = probe, Meter(Path(folder))
        if probe.device == "cpu":
            torch.set_num_threads(cores)
        bring(Path(probe.base))
        self._chat = ChatTokenizer(probe.base, probe.trust_remote_code, probe.prefill)
        dtype = torch.float32 if probe.device == "cpu" else torch.bfloat16
        model: Any = AutoModelForCausalLM.from_pretrained(probe.base, dtype=dtype, trust_remote_code=probe.trust_remote_code)
        self._model = model.to(probe.device).eval()
        self._meter.tell("start")

    @torch.inference_mode()
    def __call__(self, batch: pa.Table) -> pa.Table:
        """The rows of `PROBED` for the questions of `batch`."""
        questions = [Question.from_row(row) for row in batch.to_pylist()]
        rows: list[dict[str, Any]] = [dict.fromkeys(PROBED.names) | {"id": question.id} for question in questions]
        fitting = [i for i, question in enumerate(questions) if self._fits(question)]
        for i, found in zip(fitting, self._read([questions[i] for i in fitting]), strict=True):
            rows[i] |= found
        self._meter.tell("probe", questions=len(questions))
        return pa.Table.from_pylist(rows, schema=PROBED)

    def _chats(self, question: Question) -> list[Chat]:
        style, mode = self._probe.style, self._probe.mode
        return [
            prompts.judge_messages(question, style, mode),
            prompts.answer_messages(question),
            prompts.number_messages(question),
            prompts.truth_messages(question, ""),
        ]

    def _fits(self, question: Question) -> bool:
        """Whether every prompt about `question`, its answer in it and a reply after it, is short enough for the model."""
        room = self._probe.max_model_len - 2 * max(self._probe.max_tokens, NUMBER_TOKENS)
        return max(map(len, self._chat.encode_all(self._chats(question)))) <= room

    def _read(self, questions: Sequence[Question]) -> list[dict[str, Any]]:
        if not questions:
            return []
        spent: dict[str, float] = {}
        judged, answered, numbered, _ = zip(*map(self._chats, questions), strict=True)
        with _timed(spent, "judge_seconds", len(questions)):
            states = self._states(judged)
        with _timed(spent, "answer_seconds", len(questions)):
            answers = self._answers(answered, self._probe.max_tokens)
        texts = [answer["text"] for answer in answers]
        with _timed(spent, "truth_seconds", len(questions)):
            truths = self._yes([prompts.truth_messages(q, text) for q, text in zip(questions, texts, strict=True)])
        with _timed(spent, "number_seconds", len(questions)):
            numbers = self._answers(numbered, NUMBER_TOKENS)
        return [
            {
                "layers": len(state),
                "states": pack_states(state),
                "answer": answer["text"],
                "answer_tokens": answer["tokens"],
                "entropy": answer["entropy"],
                "log_probability": answer["log_probability"],
                "p_true": truth,
                "number": number["text"],
                "number_tokens": number["tokens"],
                **spent,
            }
            for state, answer, truth, number in zip(states, answers, truths, numbers, strict=True)
        ]

    def _batch(self, chats: Sequence[Chat]) -> _Batch:
        encoded = self._chat.encode_all(chats)
        longest = max(map(len, encoded))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in encoded])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return _Batch(*(tensor.to(self._probe.device) for tensor in (ids, mask, positions)))

    def _states(self, chats: Sequence[Chat]) -> NDArray[np.float32]:
        """Hidden states at the last token, `[chats, layers read, hidden]`."""
        output = self._model.base_model(**self._batch(chats)._asdict(), output_hidden_states=True, use_cache=False)
        states = output.hidden_states[1:]
        count = min(self._probe.layers, len(states))
        chosen = [states[len(states) * (i + 1) // count - 1][:, -1] for i in range(count)]
        read: NDArray[np.float32] = torch.stack(chosen, dim=1).float().cpu().numpy()
        return read

    def _yes(self, chats: Sequence[Chat]) -> list[float]:
        """The probability of yes against no as the next token."""
        tokens = list(self._chat.word_tokens(YES_NO))
        output = self._model(**self._batch(chats)._asdict(), logits_to_keep=1, use_cache=False)
        shares: list[float] = output.logits[:, -1, tokens].float().softmax(dim=1)[:, 0].tolist()
        return shares

    def _answers(self, chats: Sequence[Chat], max_tokens: int) -> list[dict[str, Any]]:
        """Greedy replies: text, tokens generated, entropy of the first and mean log-probability of all, the end included."""
        batch = self._batch(chats)
        settings = GenerationConfig(
            max_new_tokens=max_tokens, do_sample=False, eos_token_id=list(self._chat.stop_tokens), pad_token_id=0
        )
        output = self._model.generate(
            input_ids=batch.input_ids,
            attention_mask=batch.attention_mask,
            generation_config=settings,
            output_logits=True,
            return_dict_in_generate=True,
        )
        spoken = output.sequences[:, batch.input_ids.shape[1] :].cpu()
        first = output.logits[0].float().log_softmax(dim=1)
        entropy = -(first.exp() * first).sum(dim=1).cpu()
        steps = [step.float().log_softmax(dim=1).cpu().gather(1, spoken[:, i : i + 1]) for i, step in enumerate(output.logits)]
        chosen = torch.cat(steps, dim=1)
        return [
            {
                "text": self._chat.tokenizer.decode(row[:length], skip_special_tokens=True),
                "tokens": float(length),
                "entropy": float(uncertain),
                "log_probability": float(likely[:length].mean()),
            }
            for row, likely, uncertain, length in zip(spoken, chosen, entropy, self._lengths(spoken), strict=True)
        ]

    def _lengths(self, spoken: torch.Tensor) -> list[int]:
        """Tokens of each reply, its end token included; what follows is padding."""
        ends = np.isin(spoken.numpy(), self._chat.stop_tokens)
        return [int(length) for length in np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, spoken.shape[1])]


def pack_states(states: NDArray[np.float32]) -> str:
    """Hidden states `[layers, hidden]` as text: half precision, enough for a linear read-out, in base64."""
    limit = float(np.finfo(np.float16).max)
    return base64.b64encode(np.clip(states, -limit, limit).astype("<f2").tobytes()).decode()


def unpack_states(packed: str, layers: int) -> NDArray[np.float16]:
    """The hidden states `[layers, hidden]` that `pack_states` made a text of."""
    return np.frombuffer(base64.b64decode(packed), dtype="<f2").reshape(layers, -1)


@contextmanager
def _timed(spent: dict[str, float], name: str, rows: int) -> Iterator[None]:
    began = time.perf_counter()
    yield
    spent[name] = (time.perf_counter() - began) / rows


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePool:
    """The workers of a probing and the rows they take at once. Decides no content."""

    workers: int
    cores: int
    batch_size: int
    block_rows: int


def probe(
    folder: StageFolder, questions: StageFolder, num_questions: int, asked: Probe, pool: ProbePool, logs: Path
) -> StageDone:
    """Read the model of `asked` on the committed `questions` into `folder`."""
    workers = Workers(
        worker=Prober,
        arguments={"probe": asked, "cores": pool.cores, "folder": str(folder.path), "logs": str(logs)},
        least=1,
        most=pool.workers,
        batch_size=pool.batch_size,
        num_cpus=1,
        num_gpus=1 if asked.device == "cuda" else 0,
    )
    return run_table_stage(folder, questions, workers, num_in=num_questions, block_rows=pool.block_rows)
