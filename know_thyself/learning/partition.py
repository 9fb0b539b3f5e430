"""DeepSpeed around an objective, and the float32 truth of its parameters, whichever worker holds which part of it.

Every ZeRO stage keeps weights and Adam's moments elsewhere: stage 0 whole on each worker, stages 1 and 2 cut from flat buffers,
stage 3 cut from the parameters themselves. `Holder` reads and writes them one parameter at a time, whole, in float32.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch

from know_thyself.learning.lesson import Lesson
from know_thyself.learning.objectives import Objective
from know_thyself.learning.zero import zero_settings

WEIGHT, MOMENTS = "weight", ("exp_avg", "exp_avg_sq")


@contextmanager
def deepspeed_session(lesson: Lesson) -> Iterator[dict[str, Any]]:
    """DeepSpeed made ready on the default process group; the settings for it.

    Inside the context transformers knows of ZeRO-3 and never holds a whole model per worker.
    """
    os.environ.setdefault("DS_ACCELERATOR", lesson.device)
    import deepspeed
    import deepspeed.ops

    # Compiled at first use, and of use to tensor parallelism alone.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    deepspeed.init_distributed(dist_backend="nccl" if lesson.device == "cuda" else "gloo", verbose=False)
    workers = torch.distributed.get_world_size()
    settings = zero_settings(lesson.config, lesson.deepspeed, lesson.in_bf16, workers)
    if lesson.config.zero_stage < 3:
        yield settings
        return
    from transformers.integrations.deepspeed import HfDeepSpeedConfig

    known = HfDeepSpeedConfig(settings)  # transformers asks this very object, for as long as it lives
    yield settings
    del known


def start_deepspeed(objective: Objective, lesson: Lesson, settings: Mapping[str, Any]) -> Any:
    """A DeepSpeed engine around `objective` with torch's own AdamW, whose rate is for each step to set."""
    import deepspeed

    parameters = [parameter for parameter in objective.parameters() if parameter.requires_grad]
    # Rate 0: in bf16, stage 0 of DeepSpeed takes a step before the first.
    optimizer = torch.optim.AdamW(parameters, lr=0.0, weight_decay=lesson.config.weight_decay)
    engine, *_ = deepspeed.initialize(model=objective, optimizer=optimizer, model_parameters=parameters, config=dict(settings))
    engine.train()
    return engine


class Holder(Protocol):
    """Where a ZeRO stage keeps the float32 truth. All workers call each method alike: it may talk to the others."""

    def begin(self, steps: int) -> None:
        """Lay out the optimiser's state as after `steps` steps, moments at zero, so that it can be read and written."""

    def read(self, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
        """Weight and moments of `parameter`, whole, in float32, on the CPU."""

    def write(self, parameter: torch.nn.Parameter, tensors: Mapping[str, torch.Tensor]) -> None:
        """Make `tensors`, as `read` gave them, those of `parameter`."""

    def end(self) -> None:
        """Give the forward pass the weights that were written."""


class WholeHolder:
    """ZeRO-0: every worker holds everything; in bf16 the optimiser steps on float32 copies of the parameters."""

    def __init__(self, engine: Any) -> None:
        self._optimizer = engine.basic_optimizer
        trained = [parameter for parameter in engine.module.parameters() if parameter.requires_grad]
        stepped = [parameter for group in self._optimizer.param_groups for parameter in group["params"]]
        self._pairs = dict(zip(trained, stepped, strict=True))

    def begin(self, steps: int) -> None:
        """See `Holder.begin`."""
        _lay_out(self._optimizer, self._pairs.values(), steps)

    def read(self, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
        """See `Holder.read`."""
        return {name: _owned(tensor) for name, tensor in self._tensors(parameter).items()}

    def write(self, parameter: torch.nn.Parameter, tensors: Mapping[str, torch.Tensor]) -> None:
        """See `Holder.write`."""
        for name, tensor in self._tensors(parameter).items():
            tensor.data.copy_(tensors[name])

    def end(self) -> None:
        """See `Holder.end`."""
        for parameter, stepped in self._pairs.items():
            parameter.data.copy_(stepped.data)

    def _tensors(self, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
        stepped = self._pairs[parameter]
        return {WEIGHT: stepped, **{moment: self._optimizer.state[stepped][moment] for moment in MOMENTS}}


class PartHolder:
    """ZeRO-1 to 3: each worker holds a part of every flat buffer."""

    def __init__(self, engine: Any) -> None:
        self._zero = engine.optimizer
        self._is_stage_3 = engine.zero_optimization_stage() == 3

    def begin(self, steps: int) -> None:
        """See `Holder.begin`."""
        flat = self._zero.fp32_partitioned_groups_flat if self._is_stage_3 else self._zero.single_partition_of_fp32_groups
        _lay_out(self._zero.optimizer, flat, steps)
        if not self._is_stage_3:
            # DeepSpeed links a parameter to its share of the moments only at its first step, and cannot set them before.
            self._zero._lazy_init_hp_params_optimizer_state()

    def read(self, parameter: torch.nn.Parameter) -> dict[str, torch.Tensor]:
        """See `Holder.read`."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        moments = {moment: _owned(safe_get_full_optimizer_state(parameter, moment)) for moment in MOMENTS}
        return {WEIGHT: _owned(safe_get_full_fp32_param(parameter)), **moments}

    def write(self, parameter: torch.nn.Parameter, tensors: Mapping[str, torch.Tensor]) -> None:
        """See `Holder.write`."""
        from deepspeed.utils import safe_set_full_fp32_param, safe_set_full_optimizer_state

        safe_set_full_fp32_param(parameter, tensors[WEIGHT])
        for moment in MOMENTS:
            safe_set_full_optimizer_state(parameter, tensors[moment], moment)

    def end(self) -> None:
        """See `Holder.end`."""
        if not self._is_stage_3:
            self._zero.update_lp_params()
            return
        for group in range(len(self._zero.fp16_groups)):
            self._zero._reassign_or_swap_out_partitioned_parameters(group)
        # Small parameters stay whole on every worker: they are cut and put together anew.
        if whole := self._zero.persistent_parameters:
            whole[0].partition(whole)
            whole[0].all_gather(whole)


def holder_of(engine: Any) -> Holder:
    """Where `engine` keeps the float32 truth."""
    return PartHolder(engine) if engine.zero_optimization() else WholeHolder(engine)


def trained_parameters(engine: Any) -> dict[str, torch.nn.Parameter]:
    """The parameters that learn, by their name in the causal model."""
    named = engine.module.causal.named_parameters()
    return {name: parameter for name, parameter in named if parameter.requires_grad}


def _lay_out(optimizer: torch.optim.Optimizer, stepped: Any, steps: int) -> None:
    for parameter in stepped:
        moments = {moment: torch.zeros_like(parameter.data) for moment in MOMENTS}
        optimizer.state[parameter] = {"step": torch.tensor(float(steps)), **moments}


def _owned(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().to("cpu", torch.float32).clone()
