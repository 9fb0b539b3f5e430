"""Merge: an adapter into its base, offline, in float32 on a CPU; the result is a plain model folder."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import ray

from know_thyself.experiment import StageFolder
from know_thyself.compute.session import quiet_worker
from know_thyself.types import StageDone

MODEL = "model"
TOKENIZER_FILES = ("tokenizer*", "chat_template*", "special_tokens_map.json", "vocab.json", "merges.txt", "added_tokens.json")


def merge_adapter(base: Path, adapter: Path, out: Path) -> None:
    """Write `base` with `adapter` merged in, with the base's tokenizer, to `out`."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=torch.float32)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(out)
    for pattern in TOKENIZER_FILES:
        for file in base.glob(pattern):
            shutil.copyfile(file, out / file.name)


def merge(folder: StageFolder, base: Path, adapter: Path, logs: Path) -> StageDone:
    """Merge `adapter` into `base` on a worker of the cluster, and commit the model folder."""
    began = time.monotonic()
    out = folder.path / MODEL
    if out.exists():
        shutil.rmtree(out)

    @ray.remote(num_cpus=1)
    def work() -> None:
        quiet_worker(logs / "merge.log")
        merge_adapter(base, adapter, out)

    ray.get(work.remote())
    return folder.commit_files(sorted(path for path in out.iterdir() if path.is_file()), num_in=1, began=began)
