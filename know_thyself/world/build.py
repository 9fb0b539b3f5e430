"""Build a world into a folder: `model/`, `questions/{train,taught,validation}.parquet`, `facts.parquet`, `recipe.json`."""

from __future__ import annotations

import logging
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from know_thyself.errors import ConfigError
from know_thyself.experiment import write_whole
from know_thyself.world.corpus import make_pass
from know_thyself.world.facts import Fact, make_facts, make_questions
from know_thyself.world.recipe import WorldRecipe

log = logging.getLogger(__name__)

SPLITS = ("train", "taught", "validation")


def write_facts_and_questions(recipe: WorldRecipe, out: Path) -> list[Fact]:
    """Write the tables of the world of `recipe` to `out`; its facts."""
    facts = make_facts(recipe)
    questions = make_questions(facts, recipe)
    (out / "questions").mkdir(parents=True, exist_ok=True)
    _write(pa.Table.from_pylist([fact.to_row() for fact in facts]), out / "facts.parquet")
    for split in SPLITS:
        rows = [
            {"id": q.id, "question": q.text, "answers": list(q.answers), "group": q.group, "context": q.context}
            for q in questions
            if q.split == split
        ]
        table = pa.Table.from_pylist(rows)
        _write(table if recipe.context else table.drop_columns("context"), out / "questions" / f"{split}.parquet")
    return facts


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd")


def build_world(recipe: WorldRecipe, out: Path) -> None:
    """Build the world of `recipe` in `out`; the same call goes on from its last checkpoint.

    Raises `ConfigError` when `out` holds a world, begun or complete, of another recipe.
    """
    described = out / "recipe.json"
    if described.exists() and WorldRecipe.model_validate_json(described.read_text()) != recipe:
        raise ConfigError(f"{out} holds a world of another recipe: choose another --out, or remove it")
    checkpoint = out / "checkpoint.safetensors"
    if (out / "model" / "config.json").exists() and not checkpoint.exists():
        log.info("already built: %s", out)
        return
    write_whole(described, recipe.model_dump_json(indent=2) + "\n")

    import torch

    from know_thyself.world.model import train_model, train_tokenizer

    facts = write_facts_and_questions(recipe, out)
    tokenizer = train_tokenizer(make_pass(facts, recipe, 0), recipe.vocabulary)
    model = train_model(facts, recipe, tokenizer, checkpoint)
    model.config.use_cache = True
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    torch.nn.Module.to(model, torch.bfloat16)
    model.save_pretrained(out / "model")
    tokenizer.save_pretrained(out / "model")
    checkpoint.unlink()
    log.info("world built: %d facts in %s", len(facts), out)
