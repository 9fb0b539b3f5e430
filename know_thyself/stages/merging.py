"""Merge: an adapter into its base, offline on a CPU; the result is a plain model folder."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import ray

from know_thyself.compute.failures import failure
from know_thyself.compute.session import quiet_worker
from know_thyself.experiment import StageFolder
from know_thyself.experiment.place import pull, push, received, remove, sent
from know_thyself.experiment.writing import minding_space
from know_thyself.models import bring, tokenizer_files
from know_thyself.types import StageDone

MODEL = "model"


def merge_adapter(base: Path, adapter: Path, out: Path, trust_remote_code: bool = False) -> None:
    """Write `base` with `adapter` merged in, in the types of its own weights and with its tokenizer, to `out`."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype="auto", trust_remote_code=trust_remote_code)
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload(safe_merge=True)
    merged.save_pretrained(out)
    for name, file in tokenizer_files(base).items():
        shutil.copyfile(file, out / name)


def merge(folder: StageFolder, base: Path, adapter: Path, logs: Path, trust_remote_code: bool) -> StageDone:
    """Merge `adapter` into `base` on a worker of the cluster, and commit the model folder.

    Raises `StageError`, on a full disk `StoreError`.
    """
    began = time.monotonic()
    out = folder.path / MODEL
    if out.exists():
        shutil.rmtree(out)
    remove(out)

    @ray.remote(num_cpus=1, max_calls=1)
    def work(paths: Sequence[str]) -> None:
        base, adapter, out, logs = map(Path, received(paths))
        quiet_worker(logs / "merge.log")
        with minding_space(out):
            merge_adapter(bring(base), pull(adapter), out, trust_remote_code)
        push(out)

    try:
        ray.get(work.remote(sent([str(path) for path in (base, adapter, out, logs)])))
    except ray.exceptions.RayError as error:
        raise failure(folder, error, str(logs)) from error
    files = sorted(path for path in pull(out).iterdir() if path.is_file())
    return folder.commit_files(files, num_in=1, began=began)
