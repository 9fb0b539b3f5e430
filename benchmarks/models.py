"""The models and questions of the benchmarks: the packaged world, and Qwen2 models of random weights in the same layout."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from pathlib import Path

from know_thyself.config import load_config
from know_thyself.models import packaged_world
from know_thyself.pipelines.inputs import load_questions
from know_thyself.types import Question

SEED, HEAD = 0, 64


def world_model() -> str:
    """The packaged world's model: 2 M parameters, a vocabulary of 1,024."""
    return str(packaged_world() / "model")


def world_questions(count: int) -> list[Question]:
    """The first `count` questions of the packaged world, in an order that the seed decides."""
    questions = list(load_questions(load_config(["--preset", "world"], "benchmarks")).questions)
    random.Random(SEED).shuffle(questions)
    if len(questions) < count:
        raise ValueError(f"the world has {len(questions)} questions, and {count} are asked for")
    return questions[:count]


def endless_texts() -> Iterator[str]:
    """Questions without end, no two alike: an engine remembers what it has read."""
    questions = world_questions(6000)
    for lap in itertools.count():
        yield from (f"{question.text} ({lap})" if lap else question.text for question in questions)


def write_random_model(folder: Path, vocabulary: int = 32_000, layers: int = 12, width: int = 512) -> str:
    """Write a Qwen2 of random weights to `folder`, 64 M parameters unless told otherwise, always the same ones; its path."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from know_thyself.world.model import CONTEXT_LENGTH, train_tokenizer

    tokenizer = train_tokenizer(_documents(), min(vocabulary, 32_000))
    torch.manual_seed(SEED)
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=width * 15 // 4,
        num_hidden_layers=layers,
        num_attention_heads=width // HEAD,
        num_key_value_heads=width // HEAD,
        max_position_embeddings=2 * CONTEXT_LENGTH,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        dtype=torch.float32,
    )
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(str(folder))
    return str(folder)


def _documents() -> list[str]:
    """The world's questions, and enough made-up words for a large vocabulary."""
    draw = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(draw.choices(letters, k=draw.randint(5, 9))) for _ in range(40_000)]
    made_up = [" ".join(words[start : start + 20]) for start in range(0, len(words), 20)]
    return [*(question.text for question in world_questions(2000)), *made_up]
