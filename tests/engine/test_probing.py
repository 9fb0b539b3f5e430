"""What is read of an untrained model in batches is what transformers says of one prompt at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM

from know_thyself import prompts
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.stages import probing
from know_thyself.types import LabelMode, PromptStyle, Question

QUESTIONS = [
    Question(id=f"q{i}", text=text, answers=("x",))
    for i, text in enumerate(["Where was Dabo Kel born?", "What is it?", "What is the instrument of Sisun Nosix of Dobra?"])
]
LONG = Question(id="long", text="Where? " * 400, answers=("x",))


def a_probe(folder: Path) -> probing.Probe:
    return probing.Probe(
        base=str(folder),
        digest="d",
        encoding="e",
        prefill=None,
        trust_remote_code=False,
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        layers=2,
        max_tokens=6,
        max_model_len=256,
        device="cpu",
    )


@pytest.fixture(scope="module")
def rows(small_world: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, object]]:
    folder = str(tmp_path_factory.mktemp("probed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probing, "quiet_worker", lambda log: None)
        prober = probing.Prober(a_probe(small_world / "model"), cores=1, folder=folder, logs="unused")
    table = pa.Table.from_pylist([question.to_row() for question in [*QUESTIONS, LONG]])
    read = prober(table)
    assert read.schema == probing.PROBED
    return list(read.to_pylist())


def test_a_question_too_long_has_no_values(rows: list[dict[str, object]]) -> None:
    assert [row["id"] for row in rows] == ["q0", "q1", "q2", "long"]
    assert {name for name, value in rows[-1].items() if value is not None} == {"id"}
    assert None not in rows[0].values()


@torch.inference_mode()
def test_batches_say_what_single_prompts_say(small_world: Path, rows: list[dict[str, object]]) -> None:
    folder = small_world / "model"
    chat, model = ChatTokenizer(folder), AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def last(messages: list[dict[str, str]]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        output = model(torch.tensor([chat.encode(messages)]), output_hidden_states=True)
        return output.logits[0, -1], [states[0, -1] for states in output.hidden_states[1:]]

    for question, row in zip(QUESTIONS, rows, strict=False):
        _, states = last(prompts.judge_messages(question, PromptStyle.SYSTEM, LabelMode.BINARY))
        packed, layers = str(row["states"]), row["layers"]
        assert layers == 2
        np.testing.assert_allclose(probing.unpack_states(packed, 2), torch.stack(states).numpy(), rtol=2e-3, atol=2e-3)
        shares = last(prompts.answer_messages(question))[0].softmax(dim=0)
        assert row["entropy"] == pytest.approx(float(-(shares * shares.log()).sum()), abs=1e-3)
        yes, no = chat.word_tokens(["yes", "no"])
        truth = last(prompts.truth_messages(question, str(row["answer"])))[0][[yes, no]].softmax(dim=0)
        assert row["p_true"] == pytest.approx(float(truth[0]), abs=1e-3)
        assert isinstance(row["log_probability"], float)
        assert row["log_probability"] <= 0
        assert row["answer_tokens"] in range(1, 7)
        assert isinstance(row["judge_seconds"], float)
        assert row["judge_seconds"] > 0
