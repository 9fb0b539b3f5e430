"""The judge prompts of the engine tests, and what a plain forward pass reads at their end."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from know_thyself import prompts
from know_thyself.types import LabelMode, PromptStyle, Question

WORDS = list(prompts.VERDICT_WORDS[LabelMode.BINARY].values())


def judge_chats(questions: Sequence[Question], mode: LabelMode = LabelMode.BINARY) -> list[list[prompts.Message]]:
    """A judge prompt for each question."""
    return [prompts.judge_messages(question, PromptStyle.SYSTEM, mode) for question in questions]


def transformers_read(
    model: Path, adapter: Path | None, questions: Sequence[Question], mode: LabelMode = LabelMode.BINARY
) -> NDArray[np.float32]:
    """The log-probabilities of the verdict words of `mode` by a plain forward pass."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from know_thyself.engine.chat import ChatTokenizer

    base = AutoModelForCausalLM.from_pretrained(str(model), dtype=torch.float32)
    network = base if adapter is None else PeftModel.from_pretrained(base, str(adapter))
    chat = ChatTokenizer(model)
    tokens = list(chat.word_tokens(list(prompts.VERDICT_WORDS[mode].values())))
    asked = [torch.tensor([chat.encode(messages)]) for messages in judge_chats(questions, mode)]
    with torch.no_grad():
        rows = [network(one).logits[0, -1].log_softmax(-1)[tokens] for one in asked]
    read: NDArray[np.float32] = torch.stack(rows).numpy()
    return read
