"""The lesson: one epoch of training as every worker is told it, and the files it reads and leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from know_thyself import prompts
from know_thyself.config import TrainConfig
from know_thyself.types import LabelMode, PromptStyle

EXAMPLES, PROGRESS = "examples.parquet", "progress.jsonl"
ADAPTER, MODEL, STATE, CHECKPOINTS = "adapter", "model", "state", "checkpoints"
INDIFFERENT = {
    "patience",
    "zero_stage",
    "gradient_checkpointing",
    "checkpoint_every",
    "failures",
    "preemptions",
    "deepspeed",
}
"""Settings that change how or how long training runs, not what a step computes."""
SPREAD = {"workers", "micro_batch_size"}
"""How a batch is spread: of no account, except to the masks of dropout."""

OF_JUDGING = {"select", "target", "loss"}
"""What a judge learns: of no account to knowledge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """One epoch of training: what to start from, what to read, where to write. Paths are on storage all workers see."""

    base: str
    folder: str
    parent: str | None
    """Folder of the epoch before, whose state is gone on from."""
    teaches: Literal["judgment", "knowledge"] = "judgment"
    """To judge questions, or to answer them."""
    config: TrainConfig
    tuning: Literal["lora", "full"]
    style: PromptStyle
    mode: LabelMode
    seed: int
    epoch: int
    device: Literal["cpu", "cuda"]
    cores: int
    logs: str
    trust_remote_code: bool
    prefill: str | None
    deepspeed: Mapping[str, Any]
    """DeepSpeed settings that go over ours: the content of `train.deepspeed`."""

    @property
    def in_bf16(self) -> bool:
        """Whether training computes in bf16 (its weights and moments are float32 all the same)."""
        return self.config.precision == "bf16" or (self.config.precision == "auto" and self.device == "cuda")

    def settings(self, base_digest: str) -> dict[str, Any]:
        """All that decides the stage's content besides its examples and its parent."""
        judges = self.teaches == "judgment"
        indifferent = INDIFFERENT | (set() if self.has_dropout else SPREAD) | ({"lora"} if self.tuning == "full" else set())
        indifferent |= set() if judges else OF_JUDGING
        return {
            "prompt_version": prompts.PROMPT_VERSION,
            "teaches": self.teaches,
            "tuning": self.tuning,
            **({"style": str(self.style), "mode": str(self.mode)} if judges else {}),
            "seed": self.seed,
            "epoch": self.epoch,
            "base": base_digest,
            "prefill": self.prefill,
            **self.config.model_dump(mode="json", exclude=indifferent),
            "precision": "bf16" if self.in_bf16 else "fp32",
            "deepspeed": dict(self.deepspeed),
        }

    @property
    def has_dropout(self) -> bool:
        """Whether chance has a part in the forward pass."""
        return self.tuning == "lora" and self.config.lora.dropout > 0.0
