"""One real vLLM engine for the whole session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from know_thyself.engine.protocol import EngineSpec

if TYPE_CHECKING:
    from know_thyself.engine.vllm import VllmEngine


@pytest.fixture(scope="session")
def engine(small_world: Path) -> VllmEngine:
    from know_thyself.engine.vllm import VllmEngine

    return VllmEngine(EngineSpec(base=str(small_world / "model"), device="cpu", mode="swap", max_model_len=256, cores=2))
