"""Ways to ask a model the same questions, side by side: our stage, what it stands on, and what one would write instead.

Each way runs in a process of its own that Ray starts, at the same niceness, and reports seconds. Where a way starts anew each
time, as our stage does, its steady pace is that from the first block written to the last.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray

from benchmarks.results import median
from know_thyself import prompts
from know_thyself.compute.session import ray_session
from know_thyself.compute.tables import write_part
from know_thyself.config import EngineConfig
from know_thyself.engine.pool import Pool, trial_seed
from know_thyself.engine.protocol import Chat, Decoding, EngineSpec
from know_thyself.experiment import Experiment, StageFolder
from know_thyself.stages.examining import Task, examine
from know_thyself.types import LabelMode, ModelRef, PromptStyle, Question

CORES, SEED, TRIALS, WARMUP = 2, 0, 5, 64
WORDS = list(prompts.VERDICT_WORDS[LabelMode.BINARY].values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """What is asked of which model, the same for all ways."""

    model: str
    questions: Sequence[Question]
    decoding: Decoding
    engine: EngineConfig = field(default_factory=EngineConfig)
    max_model_len: int = 256

    @property
    def spec(self) -> EngineSpec:
        """The engine's settings."""
        return EngineSpec(base=self.model, device="cpu", mode="swap", max_model_len=self.max_model_len, cores=CORES)

    @property
    def answer_chats(self) -> list[Chat]:
        """The chats that have the questions answered."""
        return [prompts.answer_messages(question) for question in self.questions]

    @property
    def judge_chats(self) -> list[Chat]:
        """The chats that have the questions judged."""
        return [prompts.judge_messages(question, PromptStyle.SYSTEM, LabelMode.BINARY) for question in self.questions]

    @property
    def seeds(self) -> list[int]:
        """The seed of each question's first trial."""
        return [trial_seed(question.id, SEED) for question in self.questions]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of a whole run over so many questions, of which `steady` seconds per question once it is going."""

    questions: int
    total: float
    steady: float

    @property
    def each(self) -> float:
        """Seconds per question, start-up included."""
        return self.total / self.questions


def middle(runs: Sequence[Pace]) -> Pace:
    """The medians of `runs`, all over as many questions."""
    total, steadily = median(run.total for run in runs), median(run.steady for run in runs)
    return Pace(questions=runs[0].questions, total=total, steady=steadily)


@contextmanager
def session() -> Iterator[Experiment]:
    """A Ray session, and an experiment in a folder that vanishes with it."""
    with tempfile.TemporaryDirectory() as scratch:
        experiment = Experiment(Path(scratch), attempt=1)
        experiment.logs.mkdir(parents=True)
        with ray_session("local", experiment.logs):
            yield experiment


_runs = itertools.count()


def run_stage(experiment: Experiment, asking: Asking, *, samples: bool, judges: bool) -> tuple[Pace, dict[str, dict[str, Any]]]:
    """Our stage over the questions, and its rows by id."""
    source = experiment.stage("questions", {"run": next(_runs)})
    write_part(source, pa.Table.from_pylist([question.to_row() for question in asking.questions]))
    count = len(asking.questions)
    total, folder = time_stage(experiment, source, count, asking, samples=samples, judges=judges)
    pace = Pace(questions=count, total=total, steady=steady(folder.tables()))
    return pace, {row["id"]: row for row in folder.read().to_pylist()}


def time_stage(
    experiment: Experiment, source: StageFolder, count: int, asking: Asking, *, samples: bool, judges: bool
) -> tuple[float, StageFolder]:
    """Seconds of our stage over the `count` questions of `source`, and what it wrote."""
    engine, model = asking.engine, ModelRef(name=asking.model, digest="benchmark")
    task = Task(
        answerer=model if samples else None,
        judge=model if judges else None,
        decoding=asking.decoding,
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        seed=SEED,
        backend=engine.backend,
        max_model_len=asking.max_model_len,
        encoding="benchmark",
    )
    pool = Pool(
        engine=asking.spec,
        least=engine.actors_min,
        most=engine.actors_max,
        batch_size=engine.batch_size,
        block_rows=engine.block_rows,
    )
    folder = experiment.stage("examine", {"run": next(_runs)})
    began = time.perf_counter()
    examine(folder, source, count, task, pool, experiment.logs)
    return time.perf_counter() - began, folder


def steady(parts: Sequence[Path]) -> float:
    """Seconds per row from when the first quarter of `parts` was written until the last was."""
    written: list[tuple[float, int]] = sorted((part.stat().st_mtime, pq.read_metadata(part).num_rows) for part in parts)
    if len(written) < 2:
        raise ValueError(f"{len(written)} block tells no pace: ask more questions, or fewer at once")
    going = max(1, len(written) // 4)
    seconds = written[-1][0] - written[going - 1][0]
    return seconds / sum(rows for _, rows in written[going:])


def run_processor(experiment: Experiment, asking: Asking) -> float:
    """Seconds of Ray Data's own vLLM processor, a row for each trial. As its batches overlap, its files tell no steady pace."""
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from know_thyself.engine.vllm import environment, llm_settings

    settings = {name: value for name, value in llm_settings(asking.spec).items() if name != "model"}
    light = {"enabled": True, "num_cpus": 0.25}  # a whole CPU each would leave this small cluster none to read and write with
    config = vLLMEngineProcessorConfig(
        model_source=asking.model,
        engine_kwargs=settings,
        batch_size=64,
        concurrency=1,
        placement_group_config={"bundles": [{"CPU": 1}]},
        runtime_env={"env_vars": environment(asking.spec)},
        chat_template_stage=light,
        tokenize_stage=light,
        detokenize_stage=False,
        log_engine_metrics=False,
    )
    number = next(_runs)
    source, out = experiment.stage("exploded", {"run": number}), experiment.path / f"processed-{number}"
    write_part(source, pa.Table.from_pylist(_exploded(asking)))
    began = time.perf_counter()
    decoding = asking.decoding

    def ask(row: Mapping[str, Any]) -> dict[str, Any]:
        settings = {"temperature": decoding.temperature, "top_p": decoding.top_p, "max_tokens": decoding.max_tokens}
        return {
            "messages": list(row["messages"]),
            "sampling_params": {**settings, "seed": row["seed"]},
            "id": row["id"],
            "index": row["index"],
        }

    def keep(row: Mapping[str, Any]) -> dict[str, Any]:
        return {"id": row["id"], "index": row["index"], "text": row["generated_text"], "tokens": row["num_generated_tokens"]}

    processor = build_processor(config, preprocess=ask, postprocess=keep)
    dataset = ray.data.read_parquet([str(part) for part in source.tables()])
    processor(dataset.repartition(target_num_rows_per_block=asking.engine.block_rows * TRIALS)).write_parquet(str(out))
    return time.perf_counter() - began


def _exploded(asking: Asking) -> list[dict[str, Any]]:
    return [
        {"id": question.id, "index": index, "seed": seed + index, "messages": list(chat)}
        for question, chat, seed in zip(asking.questions, asking.answer_chats, asking.seeds, strict=True)
        for index in range(asking.decoding.num_trials)
    ]


class Bare:
    """The limit: one `vllm.LLM` with our engine's settings, given tokens, all questions at once."""

    def __init__(self, asking: Asking) -> None:
        from know_thyself.engine.chat import ChatTokenizer
        from know_thyself.engine.vllm import environment, llm_settings

        os.environ |= environment(asking.spec)
        from vllm import LLM

        self._asking, self._chat = asking, ChatTokenizer(asking.model)
        self._llm = LLM(**llm_settings(asking.spec))

    def sample(self, count: int) -> tuple[float, dict[str, list[str]]]:
        """Seconds to answer the first `count` questions in all trials, and the texts by id."""
        from vllm import SamplingParams

        asking, decoding = self._asking, self._asking.decoding
        settings = [
            SamplingParams(
                n=decoding.num_trials,
                seed=seed,
                temperature=decoding.temperature,
                top_p=decoding.top_p,
                max_tokens=decoding.max_tokens,
            )
            for seed in asking.seeds[:count]
        ]
        seconds, outputs = self._timed(asking.answer_chats[:count], settings)
        texts = [[o.text for o in sorted(output.outputs, key=lambda o: o.index)] for output in outputs]
        return seconds, {question.id: text for question, text in zip(asking.questions, texts, strict=False)}

    def judge(self, count: int) -> tuple[float, dict[str, list[float]]]:
        """Seconds to read one token's log-probabilities after the first `count` prompts, and those of the verdict words."""
        from vllm import SamplingParams

        tokens = self._chat.word_tokens(WORDS)
        settings = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens))
        seconds, outputs = self._timed(self._asking.judge_chats[:count], settings)
        reads = [[output.outputs[0].logprobs[0][token].logprob for token in tokens] for output in outputs]
        return seconds, {question.id: read for question, read in zip(self._asking.questions, reads, strict=False)}

    def say(self, count: int, max_tokens: int) -> float:
        """Seconds to have verdicts on the first `count` questions generated in up to `max_tokens` tokens, and parsed."""
        from vllm import SamplingParams

        seconds, outputs = self._timed(self._asking.judge_chats[:count], SamplingParams(max_tokens=max_tokens, temperature=0.0))
        began = time.perf_counter()
        _parse([output.outputs[0].text for output in outputs])
        return seconds + time.perf_counter() - began

    def _timed(self, chats: Sequence[Chat], settings: Any) -> tuple[float, list[Any]]:
        requests: Any = [{"prompt_token_ids": ids} for ids in self._chat.encode_all(chats)]
        self._llm.reset_prefix_cache()
        began = time.perf_counter()
        outputs = self._llm.generate(requests, settings, use_tqdm=False)
        return time.perf_counter() - began, outputs


class Transformers:
    """The prototype's way: `generate` of transformers, question by question or in batches padded on the left."""

    def __init__(self, asking: Asking) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        torch.set_num_threads(CORES)
        self._asking = asking
        self._tokenizer = AutoTokenizer.from_pretrained(asking.model, padding_side="left")
        self._model: Any = AutoModelForCausalLM.from_pretrained(asking.model, dtype=torch.float32)

    def sample(self, count: int, batch: int) -> float:
        """Seconds to answer the first `count` questions in all trials, `batch` at once."""
        decoding = self._asking.decoding
        settings = {"temperature": decoding.temperature, "top_p": decoding.top_p, "top_k": 0, "do_sample": True}
        return self._generate(
            self._asking.answer_chats[:count],
            batch,
            {**settings, "num_return_sequences": decoding.num_trials, "max_new_tokens": decoding.max_tokens},
        )

    def say(self, count: int, batch: int, max_tokens: int) -> float:
        """Seconds to have verdicts on the first `count` questions generated and parsed, `batch` at once."""
        return self._generate(self._asking.judge_chats[:count], batch, {"do_sample": False, "max_new_tokens": max_tokens})

    def _generate(self, chats: Sequence[Chat], batch: int, settings: Mapping[str, Any]) -> float:
        import torch

        began = time.perf_counter()
        for first in range(0, len(chats), batch):
            texts = [
                self._tokenizer.apply_chat_template(list(chat), tokenize=False, add_generation_prompt=True)
                for chat in chats[first : first + batch]
            ]
            inputs = self._tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
            with torch.inference_mode():
                tokens = self._model.generate(**inputs, **settings)
            _parse(self._tokenizer.batch_decode(tokens[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True))
        return time.perf_counter() - began


def _parse(texts: Sequence[str]) -> list[str | None]:
    """The verdict word that each of `texts` begins with."""
    return [next((word for word in WORDS if text.strip().lower().startswith(word)), None) for text in texts]


def start(way: type[Any], *arguments: Any) -> tuple[Any, float]:
    """An actor of `way`, and the seconds until it was ready. It takes no CPU of the cluster: nothing else works beside it."""
    began = time.perf_counter()
    actor = ray.remote(way).options(num_cpus=0).remote(*arguments)
    ray.get(actor.__ray_ready__.remote())
    return actor, time.perf_counter() - began
