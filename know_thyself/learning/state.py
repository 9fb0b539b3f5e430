"""The state of training as plain safetensors, bound to no number of workers and no ZeRO stage.

A state folder holds float32 weights and moments of every learning parameter, in shards, and the optimiser's steps so far.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from know_thyself.experiment.writing import storing
from know_thyself.learning.partition import MOMENTS, WEIGHT, holder_of, trained_parameters

SHARD_BYTES = 2 << 30
"""Tensors held in memory before they are written out."""
STEPS = "steps"


def write_state(engine: Any, folder: Path, steps: int) -> dict[str, torch.Tensor]:
    """Write the state after `steps` optimiser steps to `folder`; the weights by name, on the first worker alone.

    All workers must call: gathering is collective.
    """
    shards, weights = _Shards(folder, steps), dict[str, torch.Tensor]()
    holder, is_writer = holder_of(engine), torch.distributed.get_rank() == 0
    for name, parameter in trained_parameters(engine).items():
        tensors = holder.read(parameter)
        if is_writer:
            shards.add({f"{kind}.{name}": tensor for kind, tensor in tensors.items()})
            weights[name] = tensors[WEIGHT]
    if is_writer:
        shards.flush()
    return weights


def read_state(engine: Any, folder: Path | None) -> int:
    """Put the state in `folder` into `engine`; the optimiser steps behind it. Without a folder, that of before the first step.

    All workers must call. Raises `KeyError` when the state is of other parameters.
    """
    files = [safe_open(file, framework="pt") for file in sorted(folder.glob("*.safetensors"))] if folder else []
    places = {name: file for file in files for name in file.keys()}  # noqa: SIM118  # no mapping, though it has keys
    steps = int(files[0].metadata()[STEPS]) if files else 0
    holder = holder_of(engine)
    holder.begin(steps)
    if places:
        for name, parameter in trained_parameters(engine).items():
            names = {kind: f"{kind}.{name}" for kind in (WEIGHT, *MOMENTS)}
            holder.write(parameter, {kind: places[full].get_tensor(full) for kind, full in names.items()})
        holder.end()
    return steps


class _Shards:
    """Tensors on their way into files of about `SHARD_BYTES`."""

    def __init__(self, folder: Path, steps: int) -> None:
        self._folder, self._steps = folder, steps
        self._tensors: dict[str, torch.Tensor] = {}
        self._number = 0

    def add(self, tensors: dict[str, torch.Tensor]) -> None:
        self._tensors |= tensors
        if sum(tensor.nbytes for tensor in self._tensors.values()) >= SHARD_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._tensors:
            self._number += 1
            file = self._folder / f"{self._number:05}.safetensors"
            with storing(file):
                self._folder.mkdir(parents=True, exist_ok=True)
                save_file(self._tensors, file, metadata={STEPS: str(self._steps)})
            self._tensors = {}
