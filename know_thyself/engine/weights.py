"""What the weights of a model folder hold: whether they are numbers, and whether they fit into another model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from know_thyself.artefacts import SAFE


def not_finite(folder: Path) -> str | None:
    """The name of a tensor in `folder` that holds NaN or infinity; None where all are finite."""
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping, though it has keys
                if not file.get_tensor(name).float().isfinite().all():
                    return str(name)
    return None


def resized(folder: Path, base: Path) -> str | None:
    """The name of a tensor in `folder` that has another shape in `base`, as after a change of vocabulary; None without one."""
    shapes = dict(_shapes(base))
    return next((name for name, shape in _shapes(folder) if shapes.get(name, shape) != shape), None)


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SAFE}"))


def _shapes(folder: Path) -> Iterator[tuple[str, Any]]:
    for path in _files(folder):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping, though it has keys
                yield name, file.get_slice(name).get_shape()
