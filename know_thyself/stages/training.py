"""Train: the judgment of a model, by DeepSpeed under Ray Train, at the one position where the verdict is read.

The loss is the cross-entropy over the verdict words against the soft target; no other position meets the vocabulary. The
order of examples is a function of seed, epoch and pass, and the global batch does not change with the number of workers.
What continues from epoch to epoch (adapter, optimiser moments, place in the schedule) is kept as plain safetensors.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import ray
import torch
from numpy.typing import NDArray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from know_thyself import prompts
from know_thyself.compute.session import interruptible, quiet_worker
from know_thyself.config import TrainConfig
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.errors import StageError, first_line
from know_thyself.experiment import StageFolder
from know_thyself.types import LabelMode, PromptStyle, Question, StageDone

EXAMPLES, PROGRESS, ADAPTER, STATE = "examples.parquet", "progress.jsonl", "adapter", "state.safetensors"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One epoch of training: what to start from, what to read, where to write. Paths are on storage all workers see."""

    base: str
    folder: str
    parent: str | None
    config: TrainConfig
    style: PromptStyle
    mode: LabelMode
    seed: int
    epoch: int
    device: str
    cores: int
    logs: str
    trust_remote_code: bool

    def settings(self, base_digest: str) -> dict[str, Any]:
        """All that decides the stage's content besides its examples and its parent."""
        config = self.config.model_dump(mode="json", exclude={"workers", "micro_batch_size", "patience", "zero_stage"})
        return {
            "prompt_version": prompts.PROMPT_VERSION,
            "style": str(self.style),
            "mode": str(self.mode),
            "seed": self.seed,
            "epoch": self.epoch,
            "base": base_digest,
            **config,
            "precision": "bf16" if _in_bf16(self) else "fp32",
        }


def train(folder: StageFolder, lesson: Lesson) -> StageDone:
    """Train `lesson` on the examples put into `folder`, and commit adapter and state.

    Raises `StageError` when the workers keep failing.
    """
    began = time.monotonic()
    num_examples = pq.read_metadata(folder.path / EXAMPLES).num_rows
    on_gpu = lesson.device == "cuda"
    trainer = TorchTrainer(
        _teach,
        train_loop_config={"lesson": lesson},
        torch_config=TorchConfig(backend="nccl" if on_gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=lesson.config.workers,
            use_gpu=on_gpu,
            resources_per_worker={"CPU": 1, "GPU": 1} if on_gpu else {"CPU": lesson.cores},
        ),
        run_config=RunConfig(
            name="ray", storage_path=str(folder.path / "_train"), failure_config=FailureConfig(max_failures=2)
        ),
    )
    try:
        with interruptible():
            trainer.fit()
    except ray.train.TrainingFailedError as error:
        raise StageError("train", f"{first_line(error)}: see {lesson.logs}, and run the same command to go on") from error
    adapter = sorted(path for path in (folder.path / ADAPTER).iterdir() if path.suffix in {".json", ".safetensors"})
    return folder.commit_files([*adapter, folder.path / STATE], num_in=num_examples, began=began)


def order(num_examples: int, config: TrainConfig, seed: int, epoch: int) -> Iterator[NDArray[np.int64]]:
    """The examples of each step: `batch_size` indices; -1 fills up the last batch of a pass."""
    for number in range(config.passes):
        shuffled = np.random.default_rng([seed, epoch, number]).permutation(num_examples)
        for first in range(0, num_examples, config.batch_size):
            batch = shuffled[first : first + config.batch_size]
            yield np.pad(batch, (0, config.batch_size - len(batch)), constant_values=-1)


def rate(progress: float, config: TrainConfig) -> float:
    """Learning rate at `progress`, the share of all epochs that lies behind: linear warm-up, then linear decay."""
    if progress < config.warmup:
        return config.learning_rate * progress / config.warmup
    rest = (1.0 - progress) / (1.0 - config.warmup)
    return config.learning_rate * (config.final_rate + (1.0 - config.final_rate) * rest)


class VerdictReader(torch.nn.Module):
    """A causal language model read at one position: log-probabilities over the verdict words alone."""

    def __init__(self, model: torch.nn.Module, tokens: tuple[int, ...]) -> None:
        super().__init__()
        self.model = model
        self.register_buffer("tokens", torch.tensor(tokens), persistent=False)

    def forward(self, ids: torch.Tensor, last: torch.Tensor) -> torch.Tensor:
        """`[batch, words]` from right-padded `ids` `[batch, time]`, read at position `last` `[batch]`."""
        causal = self.model.get_base_model()  # type: ignore[operator]
        hidden = causal.get_decoder()(input_ids=ids, use_cache=False).last_hidden_state
        read = hidden[torch.arange(len(ids), device=ids.device), last]
        logits = causal.get_output_embeddings()(read)
        return torch.log_softmax(logits[:, self.tokens].float(), dim=-1)


@dataclass(frozen=True, slots=True)
class Examples:
    """Tokenised examples: prompts, targets `[n, words]`, weights `[n]`."""

    prompts: list[list[int]]
    targets: torch.Tensor
    weights: torch.Tensor

    def batch(self, indices: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Right-padded ids `[batch, time]`, last positions, targets and weights; index -1 has weight 0."""
        chosen = [self.prompts[i] for i in indices]
        last = torch.tensor([len(ids) - 1 for ids in chosen])
        ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(ids) for ids in chosen], batch_first=True)
        return ids, last, self.targets[indices], self.weights_of(indices)

    def weights_of(self, indices: NDArray[np.int64]) -> torch.Tensor:
        """The weights `[batch]` of the examples at `indices`; index -1 has weight 0."""
        return self.weights[indices] * torch.from_numpy(indices >= 0)


def _read_examples(lesson: Lesson, chat: ChatTokenizer) -> Examples:
    rows = pq.read_table(Path(lesson.folder) / EXAMPLES).to_pylist()
    questions = [Question.from_row(row) for row in rows]
    return Examples(
        prompts=[chat.encode(prompts.judge_messages(question, lesson.style, lesson.mode)) for question in questions],
        targets=torch.tensor([row["target"] for row in rows], dtype=torch.float32),
        weights=torch.tensor([row["weight"] for row in rows], dtype=torch.float32),
    )


def adapted_model(lesson: Lesson) -> torch.nn.Module:
    """The base with a fresh adapter, seeded, or with the parent epoch's."""
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(lesson.seed)
    base = AutoModelForCausalLM.from_pretrained(
        lesson.base, dtype=torch.float32, trust_remote_code=lesson.trust_remote_code, attn_implementation="sdpa"
    )
    if lesson.parent is not None:
        return PeftModel.from_pretrained(base, str(Path(lesson.parent) / ADAPTER), is_trainable=True)
    lora = lesson.config.lora
    adapter = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), task_type="CAUSAL_LM"
    )
    return get_peft_model(base, adapter)


def start_deepspeed(reader: VerdictReader, lesson: Lesson) -> Any:
    """A DeepSpeed engine around `reader`, with torch's own AdamW: nothing is compiled at first use."""
    os.environ.setdefault("DS_ACCELERATOR", lesson.device)
    import deepspeed
    import deepspeed.ops

    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    config = lesson.config
    share = config.batch_size // config.workers
    micro = config.micro_batch_size or share
    parameters = [parameter for parameter in reader.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=config.learning_rate, weight_decay=config.weight_decay)
    settings = {
        "train_batch_size": config.batch_size,
        "train_micro_batch_size_per_gpu": micro,
        "gradient_accumulation_steps": share // micro,
        "gradient_clipping": config.clip,
        "zero_optimization": {"stage": config.zero_stage},
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": _in_bf16(lesson)},
        "steps_per_print": 10**9,
    }
    engine, *_ = deepspeed.initialize(model=reader, optimizer=optimizer, model_parameters=parameters, config=settings)
    return engine


def _in_bf16(lesson: Lesson) -> bool:
    return lesson.config.precision == "bf16" or (lesson.config.precision == "auto" and lesson.device == "cuda")


def _trainable(engine: Any) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in engine.module.named_parameters() if parameter.requires_grad}


def save_state(engine: Any, folder: Path, steps: int) -> None:
    """Write adapter and state in float32. All ranks must call: gathering the partitioned moments is collective."""
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    weights: dict[str, torch.Tensor] = {}
    moments: dict[str, torch.Tensor] = {}
    for name, parameter in _trainable(engine).items():
        weights[name.removeprefix("model.")] = _owned(safe_get_full_fp32_param(parameter))
        moments |= {f"{moment}.{name}": _owned(safe_get_full_optimizer_state(parameter, moment)) for moment in MOMENTS}
    if torch.distributed.get_rank() == 0:
        engine.module.model.save_pretrained(folder / ADAPTER, state_dict=weights)
        _order_lists(folder / ADAPTER / "adapter_config.json")
        save_file(moments, folder / STATE, metadata={"steps": str(steps)})


def _order_lists(file: Path) -> None:
    """Rewrite the JSON of `file` with its lists in order: PEFT writes sets, whose order changes from process to process."""
    content = {
        name: sorted(value) if isinstance(value, list) else value for name, value in json.loads(file.read_text()).items()
    }
    file.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float32).clone()


def restore_state(engine: Any, parent: Path) -> int:
    """Put the parent epoch's moments back into the optimiser; the steps behind it. Collective, like `save_state`."""
    from deepspeed.utils import safe_set_full_optimizer_state

    with safe_open(parent / STATE, framework="pt") as file:
        steps = int(file.metadata()["steps"])
    partitioned = engine.optimizer.optimizer
    for group in partitioned.param_groups:
        for flat in group["params"]:
            moments = {moment: torch.zeros_like(flat) for moment in MOMENTS}
            partitioned.state[flat] = {"step": torch.tensor(float(steps)), **moments}
    # DeepSpeed links a parameter to its share of the moments only at its first step, and cannot set them before.
    engine.optimizer._lazy_init_hp_params_optimizer_state()
    tensors = load_file(parent / STATE)
    for name, parameter in _trainable(engine).items():
        for moment in MOMENTS:
            safe_set_full_optimizer_state(parameter, tensors[f"{moment}.{name}"], moment)
    return steps


def _teach(arguments: dict[str, Any]) -> None:
    """The loop of one worker."""
    lesson: Lesson = arguments["lesson"]
    rank, workers = ray.train.get_context().get_world_rank(), lesson.config.workers
    quiet_worker(Path(lesson.logs) / f"train-epoch{lesson.epoch}-rank{rank}.log")
    if lesson.device == "cpu":
        torch.set_num_threads(lesson.cores)
    chat = ChatTokenizer(lesson.base, lesson.trust_remote_code)
    examples = _read_examples(lesson, chat)
    reader = VerdictReader(adapted_model(lesson), chat.word_tokens(list(prompts.VERDICT_WORDS[lesson.mode].values())))
    engine = start_deepspeed(reader, lesson)
    before = restore_state(engine, Path(lesson.parent)) if lesson.parent is not None else 0
    if rank == 0:
        (Path(lesson.folder) / PROGRESS).unlink(missing_ok=True)
    batches = list(order(len(examples.prompts), lesson.config, lesson.seed, lesson.epoch))
    for step, indices in enumerate(batches):
        progress = (lesson.epoch - 1 + (step + 0.5) / len(batches)) / lesson.config.epochs
        lr = rate(progress, lesson.config)
        loss = take_step(engine, examples, indices, lr, rank, workers)
        if rank == 0:
            _log_step(lesson, step + 1, len(batches), loss, lr)
    save_state(engine, Path(lesson.folder), before + len(batches))
    torch.distributed.barrier()


def take_step(engine: Any, examples: Examples, indices: NDArray[np.int64], lr: float, rank: int, workers: int) -> float:
    """One optimiser step on the global batch `indices`; the mean loss over it."""
    for group in engine.optimizer.param_groups:
        group["lr"] = lr
    total = float(examples.weights_of(indices).sum())
    mine = indices.reshape(-1, workers)[:, rank]
    count = engine.gradient_accumulation_steps()
    summed = 0.0
    for part in np.split(mine, count):
        ids, last, targets, weights = (tensor.to(engine.device) for tensor in examples.batch(part))
        losses = -(targets * engine(ids, last)).sum(dim=-1) * weights
        engine.backward(losses.sum() * (workers * count / total))
        engine.step()
        summed += losses.sum().item()
    everyone = torch.tensor(summed, device=engine.device)
    torch.distributed.all_reduce(everyone)
    return float(everyone) / total


def _log_step(lesson: Lesson, step: int, steps: int, loss: float, lr: float) -> None:
    with (Path(lesson.folder) / PROGRESS).open("a") as file:
        file.write(json.dumps({"step": step, "steps": steps, "loss": round(loss, 6), "rate": lr}) + "\n")
