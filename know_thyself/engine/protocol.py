"""What every engine can do, and what it is made from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from know_thyself.errors import ConfigError
from know_thyself.prompts import Message
from know_thyself.types import Finish, ModelRef

Chat = Sequence[Message]
VLLM = "vllm"
"""The backend of the real engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine is started with. `base` is the folder of the frozen base model, `prefill` None the template's own."""

    base: str
    device: Literal["cpu", "cuda"]
    mode: Literal["swap", "adapter"]
    max_model_len: int
    cache_gib: float = 1.0
    gpu_memory: float = 0.85
    max_lora_rank: int = 16
    cores: int = 1
    trust_remote_code: bool = False
    prefill: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How answers are drawn: `num_trials` per question, trial i of a question with its seed + i."""

    num_trials: int
    temperature: float
    top_p: float
    max_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One generated answer. `num_tokens` counts the generated tokens, the end token included."""

    text: str
    finish: Finish
    num_tokens: int


class Engine(Protocol):
    """A language model that answers and judges. Not thread-safe."""

    tokens_read: int
    """Tokens of all prompts so far."""

    def use(self, model: ModelRef) -> None:
        """Answer and judge with `model` from now on; a call with the model in use does nothing."""

    def sample(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """`decoding.num_trials` replies to each chat, in order; a chat too long for the model gets replies that say ERROR."""

    def go_on(self, chats: Sequence[Chat], seeds: Sequence[int], decoding: Decoding) -> list[list[Reply]]:
        """The same, but the last turn of each chat is not ended: what comes is the rest of it, in the voice of its speaker."""

    def judge(self, chats: Sequence[Chat], words: Sequence[str]) -> NDArray[np.float64]:
        """Log-probability of each word's first token as the next token, shape `[len(chats), len(words)]`.

        Over the full vocabulary, so the words of a row need not sum to 1. Rows of chats too long for the model are nan.
        """


def verdict_shares(read: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities over the verdict words alone from what `Engine.judge` read, same shape; each row sums to 1."""
    relative = np.exp(read - read.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = relative / relative.sum(axis=1, keepdims=True)
    return shares


EngineFactory = Callable[[EngineSpec], Engine]


def load_engine_factory(backend: str) -> EngineFactory:
    """The factory that `backend` names: `vllm`, or `module:function`. Raises `ConfigError`."""
    name = "know_thyself.engine.vllm:VllmEngine" if backend == VLLM else backend
    module, colon, attribute = name.partition(":")
    try:
        factory: EngineFactory = getattr(importlib.import_module(module), attribute if colon else "")
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(f"engine.backend={backend!r} cannot be loaded ({error}): use vllm, or module:function") from error
    return factory
