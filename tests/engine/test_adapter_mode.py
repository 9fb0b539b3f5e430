"""A trained adapter is a plain PEFT folder: vLLM serves it beside the base, and reads as PEFT does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from know_thyself.engine.protocol import EngineSpec
from know_thyself.types import ModelRef, Question
from tests.engine.reading import WORDS, judge_chats, transformers_read


def test_an_adapter_is_served_beside_the_base(small_world: Path, adapter: Path, questions: list[Question]) -> None:
    from know_thyself.engine.vllm import VllmEngine

    model = small_world / "model"
    engine = VllmEngine(EngineSpec(base=str(model), device="cpu", mode="adapter", max_model_len=256, cores=2))
    asked = questions[:24]
    base = engine.judge(judge_chats(asked), WORDS)
    engine.use(ModelRef(name=str(model), adapter=str(adapter)))
    judged = engine.judge(judge_chats(asked), WORDS)
    engine.use(ModelRef(name=str(model)))
    again = engine.judge(judge_chats(asked), WORDS)
    assert np.abs(base - transformers_read(model, None, asked)).max() < 1e-3
    assert np.abs(judged - transformers_read(model, adapter, asked)).max() < 1e-3
    assert np.abs(judged - base).max() > 0.1
    assert again == pytest.approx(base, abs=1e-5)
