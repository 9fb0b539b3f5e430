"""Which weights learn, and what they become: an adapter beside a frozen base, or a model of its own.

Both are written as their users load them: an adapter folder for PEFT and vLLM, a Hugging Face folder for transformers and vLLM.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from know_thyself.artefacts import ADAPTER_CONFIG
from know_thyself.learning.lesson import ADAPTER, MODEL, Lesson
from know_thyself.models import tokenizer_files


class Tuning(Protocol):
    """A causal language model that learns."""

    @property
    def causal(self) -> Any:
        """The model itself; those of its parameters that require a gradient learn."""

    def save(self, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
        """Write what was learned below `folder`: `weights` are all learning parameters of `causal` by name."""


@dataclass(frozen=True, slots=True)
class LoraTuning:
    """An adapter learns; the base is frozen."""

    causal: Any
    adapted: Any

    @staticmethod
    def open(lesson: Lesson) -> LoraTuning:
        """The base of `lesson` with a fresh adapter, the same for the same seed."""
        from peft import LoraConfig, get_peft_model

        lora, causal = lesson.config.lora, _base(lesson)
        torch.manual_seed(lesson.seed)
        adapted = get_peft_model(
            causal,
            LoraConfig(
                r=lora.r,
                lora_alpha=lora.alpha,
                lora_dropout=lora.dropout,
                target_modules=list(lora.targets),
                task_type="CAUSAL_LM",
            ),
        )
        return LoraTuning(causal, adapted)

    def save(self, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
        """Write the adapter, in float32."""
        out = folder / ADAPTER
        named = {f"base_model.model.{name}": weight for name, weight in weights.items()}
        self.adapted.save_pretrained(out, state_dict=named, save_embedding_layers=False)
        _settle(out / ADAPTER_CONFIG)


@dataclass(frozen=True, slots=True)
class FullTuning:
    """All weights learn."""

    causal: Any
    base: Path
    dtype: torch.dtype

    @staticmethod
    def open(lesson: Lesson) -> FullTuning:
        """The base of `lesson`, all of it learning."""
        causal = _base(lesson)
        causal.requires_grad_(True)
        return FullTuning(causal, Path(lesson.base), _dtype(lesson))

    def save(self, weights: Mapping[str, torch.Tensor], folder: Path) -> None:
        """Write the model in the type it computed with while it learned, and the base's tokenizer beside it.

        A tied weight is written once, under the name that the config says the other is tied to.
        """
        out = folder / MODEL
        shutil.rmtree(out, ignore_errors=True)
        self.causal.config.dtype = self.dtype
        self.causal.save_pretrained(out, state_dict={name: weight.to(self.dtype) for name, weight in weights.items()})
        for name, file in tokenizer_files(self.base).items():
            shutil.copyfile(file, out / name)


TUNINGS: dict[str, type[LoraTuning] | type[FullTuning]] = {"lora": LoraTuning, "full": FullTuning}
RESULTS = {"lora": ADAPTER, "full": MODEL}
"""The folder that holds what was learned."""


def open_tuning(lesson: Lesson) -> Tuning:
    """The model of `lesson`, ready to learn, as it is before the first step of the first epoch."""
    tuning: Tuning = TUNINGS[lesson.tuning].open(lesson)
    if lesson.config.gradient_checkpointing:
        tuning.causal.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return tuning


def result_files(lesson: Lesson) -> list[Path]:
    """The files of what `lesson` made."""
    out = Path(lesson.folder) / RESULTS[lesson.tuning]
    return sorted(path for path in out.iterdir() if path.is_file() and path.suffix != ".md")


def _base(lesson: Lesson) -> Any:
    """The base in the type that DeepSpeed would make of it: in float32 a machine would have to hold twice as much at first."""
    from transformers import AutoModelForCausalLM

    trusted = lesson.trust_remote_code
    return AutoModelForCausalLM.from_pretrained(lesson.base, dtype=_dtype(lesson), trust_remote_code=trusted)


def _dtype(lesson: Lesson) -> torch.dtype:
    return torch.bfloat16 if lesson.in_bf16 else torch.float32


def _settle(file: Path) -> None:
    """Rewrite the settings of an adapter so that equal ones are equal bytes, wherever they were learned.

    PEFT writes sets as lists, whose order changes from process to process, and the folder that its base happened to lie in.
    """
    settings = {
        name: sorted(value) if isinstance(value, list) else value for name, value in json.loads(file.read_text()).items()
    }
    settings["base_model_name_or_path"] = None
    file.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
