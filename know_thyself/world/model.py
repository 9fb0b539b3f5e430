"""The world's language model: a byte-level BPE tokenizer and a small Qwen2, trained in plain torch, resumable.

Chats teach their reply alone, statements every token; matrices inside the layers learn by Muon, all else by AdamW. Both were
measured to teach facts in a fraction of the documents that plain AdamW on every token needs (docs/notes).

A checkpoint is one safetensors file with weights, optimiser state and the step, written whole and renamed into place; the
documents of a step depend on the recipe and the step alone, so a resumed build goes on as the undisturbed one would.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from know_thyself.errors import ConfigError
from know_thyself.world.corpus import make_pass
from know_thyself.world.facts import Fact
from know_thyself.world.recipe import WorldRecipe

log = logging.getLogger(__name__)

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
WHOLE_WORDS = "yes no uncertain"
WARMUP, FINAL_RATE, CLIP, POOL = 100, 0.1, 1.0, 40
CONTEXT_LENGTH, PAD_TO, PAD_TAUGHT_TO, IGNORED = 1024, 8, 256, -100
REPLY = "<|im_start|>assistant\n"
"""What opens the reply of a chat."""


def train_tokenizer(documents: list[str], vocabulary: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE of `vocabulary` tokens learned on `documents`; the verdict words are tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIALS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    spoken = [f"{word}\n" for word in WHOLE_WORDS.split()] * len(documents)
    tokenizer.train_from_iterator([*documents, *spoken], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=CONTEXT_LENGTH,
    )


def new_model(recipe: WorldRecipe, tokenizer: PreTrainedTokenizerFast) -> Qwen2ForCausalLM:
    """A Qwen2 of the recipe's size with random weights from its seed, tied embeddings, heads of 48."""
    torch.manual_seed(recipe.seed)
    heads = max(1, recipe.width // 48)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=recipe.width,
        intermediate_size=4 * recipe.width,
        num_hidden_layers=recipe.layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=CONTEXT_LENGTH,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
        use_cache=False,
        dtype=torch.float32,
    )
    return Qwen2ForCausalLM(config)


def batches(
    facts: list[Fact], recipe: WorldRecipe, tokenizer: PreTrainedTokenizerFast, start: int
) -> Iterator[list[list[int]]]:
    """Token ids of the documents of each step from `start` on, without end.

    Within a pool of `POOL` batches documents are sorted by length, so that a batch has little padding; the batches of a
    pool come in random order.
    """
    number, seen = 0, 0
    while True:
        documents = make_pass(facts, recipe, number)
        count = len(documents) // recipe.batch
        if count == 0:
            raise ConfigError(f"subjects={recipe.subjects} give {len(documents)} documents, no whole batch: raise --subjects")
        if seen + count > start:
            encoded = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(documents[: count * recipe.batch])]
            order = np.random.default_rng([recipe.seed, 3, number])
            for step, batch in enumerate(_bucketed(encoded, recipe.batch, order), start=seen):
                if step >= start:
                    yield batch
        number, seen = number + 1, seen + count


def _bucketed(encoded: list[list[int]], size: int, rng: np.random.Generator) -> Iterator[list[list[int]]]:
    for first in range(0, len(encoded), POOL * size):
        pool = sorted(encoded[first : first + POOL * size], key=len)
        for i in rng.permutation(len(pool) // size):
            yield pool[i * size : (i + 1) * size]


def first_taught(ids: list[int], opening: list[int]) -> int:
    """The first position of the document `ids` that is taught: after the last `opening` of a reply, or else the second."""
    size = len(opening)
    starts = (at + size for at in range(len(ids) - size, -1, -1) if ids[at : at + size] == opening)
    return next(starts, 1)


def _loss(model: Qwen2ForCausalLM, batch: list[list[int]], opening: list[int]) -> torch.Tensor:
    """Mean next-token cross-entropy over the tokens that the documents of `batch` teach.

    Both the documents and the taught positions are padded to multiples, so that few shapes occur: every new shape costs memory
    that is never given back.
    """
    width = -(-max(len(ids) for ids in batch) // PAD_TO) * PAD_TO
    ids = torch.zeros(len(batch), width, dtype=torch.long)
    positions: list[int] = []
    labels: list[int] = []
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        first = first_taught(tokens, opening)
        positions += range(row * width + first - 1, row * width + len(tokens) - 1)
        labels += tokens[first:]
    spare = -len(labels) % PAD_TAUGHT_TO
    hidden = model.model(input_ids=ids.to(model.device)).last_hidden_state.flatten(0, 1)
    logits = model.lm_head(hidden[torch.tensor(positions + [0] * spare)])
    target = torch.tensor(labels + [IGNORED] * spare, device=model.device)
    return torch.nn.functional.cross_entropy(logits.float(), target, ignore_index=IGNORED)


def schedule(recipe: WorldRecipe, step: int) -> float:
    """The share of its peak rate that every optimiser has at `step`."""
    progress = min(1.0, step / recipe.steps)
    decay = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return min(1.0, (step + 1) / WARMUP) * decay


def make_optimizers(model: Qwen2ForCausalLM, recipe: WorldRecipe) -> list[torch.optim.Optimizer]:
    """Muon (Jordan et al. 2024) for the matrices inside the layers, AdamW for embeddings, biases and norms."""
    inner = [p for name, p in model.named_parameters() if p.ndim == 2 and "embed" not in name]
    matrices = {id(parameter) for parameter in inner}
    outer = [parameter for parameter in model.parameters() if id(parameter) not in matrices]
    muon = torch.optim.Muon(inner, lr=recipe.matrix_rate, weight_decay=0.01, momentum=0.95)
    return [muon, torch.optim.AdamW(outer, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)]


def _states(model: Qwen2ForCausalLM, optimizers: list[torch.optim.Optimizer]) -> Iterator[tuple[str, dict[str, torch.Tensor]]]:
    """The name of each parameter, and the dictionary in which its optimiser keeps its state."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for optimizer in optimizers:
        for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
            yield names[id(parameter)], optimizer.state[parameter]


def _save(path: Path, model: Qwen2ForCausalLM, optimizers: list[torch.optim.Optimizer], step: int) -> None:
    tensors = {f"weight/{name}": parameter.detach() for name, parameter in model.named_parameters()}
    for name, state in _states(model, optimizers):
        tensors |= {f"{key}/{name}": value for key, value in state.items()}
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(path)


def _restore(path: Path, model: Qwen2ForCausalLM, optimizers: list[torch.optim.Optimizer]) -> int:
    with safe_open(path, framework="pt") as file:
        kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  # a file, no dictionary
        step = int(file.metadata()["step"])
    for name, parameter in model.named_parameters():
        parameter.data.copy_(kept[f"weight/{name}"])
    for name, state in _states(model, optimizers):
        moments = {key.partition("/")[0]: value for key, value in kept.items() if key.endswith(f"/{name}")}
        state |= {key: value.to(model.device) if value.ndim else value for key, value in moments.items() if key != "weight"}
    return step


def train_model(
    facts: list[Fact], recipe: WorldRecipe, tokenizer: PreTrainedTokenizerFast, checkpoint: Path, every: int = 50
) -> Qwen2ForCausalLM:
    """Train the language model of `recipe`, from `checkpoint` where it exists, saving there each `every` steps.

    On a GPU where there is one. The model that is returned is on the CPU.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = new_model(recipe, tokenizer)
    torch.nn.Module.to(model, device)
    optimizers = make_optimizers(model, recipe)
    step = _restore(checkpoint, model, optimizers) if checkpoint.exists() else 0
    peaks = [(group, group["lr"]) for optimizer in optimizers for group in optimizer.param_groups]
    opening = tokenizer.encode(REPLY, add_special_tokens=False)
    began, first, running = time.monotonic(), step, 0.0
    documents = batches(facts, recipe, tokenizer, start=step)
    while step < recipe.steps:
        for group, peak in peaks:
            group["lr"] = peak * schedule(recipe, step)
        with torch.autocast(device, dtype=torch.bfloat16):
            loss = _loss(model, next(documents), opening)
        model.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        for optimizer in optimizers:
            optimizer.step()
        step += 1
        running += loss.item()
        if step % every == 0 or step == recipe.steps:
            _save(checkpoint, model, optimizers, step)
            pace = (time.monotonic() - began) / (step - first)
            mean = running / ((step - 1) % every + 1)
            log.info("step %d of %d, loss %.3f, %.0f s left", step, recipe.steps, mean, pace * (recipe.steps - step))
            running = 0.0
    torch.nn.Module.to(model, "cpu")
    return model
