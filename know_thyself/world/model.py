"""The world's language model: a byte-level BPE tokenizer and a small Qwen2, trained in plain torch, resumable.

A checkpoint is one safetensors file with weights, optimiser moments and the step, written whole and renamed into place; the
documents of a step depend on the recipe and the step alone, so a resumed build goes on as the undisturbed one would.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path

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
WARMUP, FINAL_RATE, CLIP = 100, 0.1, 1.0
CONTEXT_LENGTH, ROW, IGNORED = 1024, 128, -100


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
    """Token ids of the documents of each step from `start` on, without end."""
    number, seen = 0, 0
    while True:
        documents = make_pass(facts, recipe, number)
        count = len(documents) // recipe.batch
        if count == 0:
            raise ConfigError(f"subjects={recipe.subjects} give {len(documents)} documents, no whole batch: raise --subjects")
        if seen + count > start:
            encoded = [e.ids for e in tokenizer.backend_tokenizer.encode_batch(documents[: count * recipe.batch])]
            for step in range(max(seen, start), seen + count):
                yield encoded[(step - seen) * recipe.batch : (step - seen + 1) * recipe.batch]
        number, seen = number + 1, seen + count


def pack(documents: list[list[int]], width: int) -> list[list[list[int]]]:
    """`documents` laid into rows of at most `width` tokens, the longest first where they fit."""
    rows: list[list[list[int]]] = []
    for ids in sorted(documents, key=len, reverse=True):
        row = next((row for row in rows if sum(map(len, row)) + len(ids) <= width), None)
        if row is None:
            rows.append([ids])
        else:
            row.append(ids)
    return rows


def _loss(model: Qwen2ForCausalLM, batch: list[list[int]]) -> torch.Tensor:
    """Mean next-token cross-entropy over the documents of `batch`, several to a row.

    Positions start anew with every document, by which the model knows that it must not look at the one before. Packed, a batch
    can be a random one: batches of equally long documents, which need no packing, learn less.
    """
    width = max(ROW, *map(len, batch))
    rows = pack(batch, width)
    shape = len(rows), width  # few shapes occur: every new one costs memory that is never given back
    ids, positions, labels = (
        torch.zeros(shape, dtype=torch.long),
        torch.zeros(shape, dtype=torch.long),
        torch.full(shape, IGNORED),
    )
    for number, row in enumerate(rows):
        end = 0
        for tokens in row:
            start, end = end, end + len(tokens)
            ids[number, start:end] = torch.tensor(tokens)
            positions[number, start:end] = torch.arange(len(tokens))
            labels[number, start : end - 1] = torch.tensor(tokens[1:])
    logits = model(input_ids=ids.to(model.device), position_ids=positions.to(model.device)).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten().to(model.device), ignore_index=IGNORED)


def _rate(recipe: WorldRecipe, step: int) -> float:
    progress = min(1.0, step / recipe.steps)
    decay = FINAL_RATE + (1 - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))
    return recipe.learning_rate * min(1.0, (step + 1) / WARMUP) * decay


def _save(path: Path, model: Qwen2ForCausalLM, optimizer: torch.optim.AdamW, step: int) -> None:
    tensors = {}
    for name, parameter in model.named_parameters():
        tensors[f"weight.{name}"] = parameter.detach()
        for moment in ("exp_avg", "exp_avg_sq"):
            tensors[f"{moment}.{name}"] = optimizer.state[parameter][moment]
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(path)


def _restore(path: Path, model: Qwen2ForCausalLM, optimizer: torch.optim.AdamW) -> int:
    with safe_open(path, framework="pt") as file:
        step = int(file.metadata()["step"])
        for name, parameter in model.named_parameters():
            parameter.data.copy_(file.get_tensor(f"weight.{name}"))
            moments = {moment: file.get_tensor(f"{moment}.{name}").to(model.device) for moment in ("exp_avg", "exp_avg_sq")}
            optimizer.state[parameter] = {"step": torch.tensor(float(step)), **moments}
    return step


def _multiplies_bf16(device: str) -> bool:
    """Whether `device` multiplies bf16 itself: a CPU that only emulates it takes ten times as long as in float32."""
    able = torch.cpu.get_capabilities()
    return device == "cuda" or any(able.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def train_model(
    facts: list[Fact], recipe: WorldRecipe, tokenizer: PreTrainedTokenizerFast, checkpoint: Path, every: int = 50
) -> Qwen2ForCausalLM:
    """Train the language model of `recipe`, from `checkpoint` where it exists, saving there each `every` steps.

    On a GPU where there is one; the model that is returned is on the CPU. Computes in bf16 where the device multiplies it.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    in_bf16 = _multiplies_bf16(device)
    model = new_model(recipe, tokenizer)
    torch.nn.Module.to(model, device)
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    step = _restore(checkpoint, model, optimizer) if checkpoint.exists() else 0
    began, first = time.monotonic(), step
    documents = batches(facts, recipe, tokenizer, start=step)
    running = 0.0
    while step < recipe.steps:
        for group in optimizer.param_groups:
            group["lr"] = _rate(recipe, step)
        with torch.autocast(device, dtype=torch.bfloat16, enabled=in_bf16):
            loss = _loss(model, next(documents))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimizer.step()
        step += 1
        running += loss.item()
        if step % every == 0 or step == recipe.steps:
            _save(checkpoint, model, optimizer, step)
            pace = (time.monotonic() - began) / (step - first)
            mean = running / ((step - 1) % every + 1)
            log.info("step %d of %d, loss %.3f, %.0f s left", step, recipe.steps, mean, pace * (recipe.steps - step))
            running = 0.0
    torch.nn.Module.to(model, "cpu")
    return model
