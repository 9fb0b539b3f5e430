"""Whether the cluster has room for the engines and the training of a job, and the wait for nodes that are still to come."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import ray
from joblib import cpu_count
from ray.util.placement_group import placement_group, remove_placement_group
from rich.console import Console

from know_thyself.compute.session import SPARE_CPUS
from know_thyself.config import EngineConfig, TrainConfig
from know_thyself.errors import ConfigError

Device = Literal["cpu", "cuda"]
Bundle = Mapping[str, float]
"""What one engine, worker or task needs of one node, by the names of Ray's resources."""
LOOK_EVERY = 0.5


@dataclass(frozen=True, slots=True)
class Room:
    """The cluster of a job, which may take `patience` seconds to bring nodes that it lacks; 0 for one that has what it has."""

    patience: float
    console: Console

    def for_engines(self, engine: EngineConfig) -> Device:
        """The device that engines run on, once there is room for the fewest: what `engine` says, or for `auto` what is there.

        Raises `ConfigError` when there is no such room.
        """
        least = engine.actors_min
        cpus = least + SPARE_CPUS
        asked = f"engine.actors-min={least} needs {cpus} CPUs with those that read and write"
        self._hold(cpus, {"CPU": 1}, asked, "add a node, or lower engine.actors-min")
        if engine.device == "cuda":
            asked = f"engine.device='cuda' needs a GPU for each of engine.actors-min={least}"
            self._hold(least, {"CPU": 1, "GPU": 1}, asked, "add a GPU node, or use --engine.device cpu")
        if engine.device == "auto":
            return "cuda" if ray.cluster_resources().get("GPU", 0) >= 1 else "cpu"
        return engine.device

    def for_training(self, train: TrainConfig, device: Device) -> None:
        """Return once there is a device for each of the fewest workers. Raises `ConfigError` when there is none."""
        kind = device_kind(device)
        asked = f"train.workers={train.workers} needs a {kind} each"
        self._hold(train.workers_min, {kind: 1}, asked, "lower train.workers, or add a node")

    def _hold(self, number: int, bundle: Bundle, asked: str, remedy: str) -> None:
        """Return once the cluster has `number` times what is in `bundle`, for which its autoscaler is asked meanwhile."""
        if _has(number, bundle):
            return
        if self.patience:
            self.console.print(f"{asked}: waiting {self.patience:g} s at most for nodes", highlight=False)
            with _asked_for(number, bundle):
                deadline = time.monotonic() + self.patience
                while time.monotonic() < deadline:
                    time.sleep(LOOK_EVERY)
                    if _has(number, bundle):
                        return
        there = ray.cluster_resources()
        raise ConfigError(
            f"{asked}, but the cluster has {there.get('CPU', 0):g} CPUs and {there.get('GPU', 0):g} GPUs: {remedy}"
        )


def _has(number: int, bundle: Bundle) -> bool:
    there = ray.cluster_resources()
    return all(there.get(kind, 0) >= number * amount for kind, amount in bundle.items())


@contextmanager
def _asked_for(number: int, bundle: Bundle) -> Iterator[None]:
    """Ask for `number` times `bundle` as Ray's autoscaler hears it: it is forgotten after the context, or with the driver."""
    group = placement_group([dict(bundle)] * number)
    try:
        yield
    finally:
        remove_placement_group(group)


def device_kind(device: Device) -> Literal["CPU", "GPU"]:
    """What Ray calls the resource that each training worker on `device` needs one of."""
    return "GPU" if device == "cuda" else "CPU"


def node_cores() -> int:
    """CPU cores that every node with any has at least, this machine's included."""
    nodes = [int(node["Resources"]["CPU"]) for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU", 0) >= 1]
    return max(1, min([int(cpu_count()), *nodes]))
