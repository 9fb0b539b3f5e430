"""Templates that think, on the real engine: its read is transformers' read, a reply ends with its turn, and wherever a question
becomes tokens (sampling, judging, training, a judge's local client) they are the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from know_thyself import prompts
from know_thyself.client.local import LocalJudge
from know_thyself.compute.room import Room
from know_thyself.config import ChatConfig, RunConfig, TrainConfig
from know_thyself.data.splits import Questions
from know_thyself.engine import vllm
from know_thyself.engine.chat import ChatTokenizer
from know_thyself.engine.protocol import Decoding, EngineSpec
from know_thyself.experiment import Experiment
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.learning.lesson import Lesson
from know_thyself.learning.objectives import example_of
from know_thyself.models import resolve_model
from know_thyself.pipelines import bench
from know_thyself.pipelines.inputs import Inputs
from know_thyself.stages import examining
from know_thyself.testing import untrained_card
from know_thyself.types import LabelMode, ModelRef, PromptStyle, Question
from tests.chat_models import CHANNELS, SWITCHED, Family, encoding_digest, write_model
from tests.engine.reading import WORDS, judge_chats, transformers_read

DECODING = Decoding(num_trials=4, temperature=1.0, top_p=1.0, max_tokens=48)
QUESTIONS = [Question(id=f"q{i}", text=f"What is the capital of country {i}?", answers=("x",)) for i in range(24)]
TOLD = Question(id="told", text="What is the capital of country 3?", answers=("x",), context="Country 3: its capital is x.")
LONGEST = 256


class Recorder:
    """vLLM's engine, with all that it was given and gave."""

    def __init__(self, llm: Any) -> None:
        self._llm = llm
        self.prompts: list[list[int]] = []
        self.outputs: list[Any] = []

    def generate(self, requests: Sequence[dict[str, list[int]]], *arguments: Any, **named: Any) -> list[Any]:
        self.prompts += [request["prompt_token_ids"] for request in requests]
        outputs = list(self._llm.generate(requests, *arguments, **named))
        self.outputs += outputs
        return outputs


@pytest.mark.parametrize("family", [SWITCHED, CHANNELS], ids=["switched", "channels"])
def test_a_thinking_model_is_sampled_judged_trained_and_served_alike(
    family: Family, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model(family, tmp_path / "model")
    spec = EngineSpec(base=str(model), device="cpu", mode="swap", max_model_len=LONGEST, cores=2)
    engine = vllm.VllmEngine(spec)
    recorder = Recorder(engine._llm)
    monkeypatch.setattr(engine, "_llm", recorder)

    read = engine.judge(judge_chats(QUESTIONS), WORDS)
    assert np.abs(read - transformers_read(model, None, QUESTIONS)).max() < 1e-3

    check_endings(engine, recorder, ChatTokenizer(model))

    monkeypatch.setattr(vllm, "_start", lambda _: recorder)
    monkeypatch.setattr(examining, "quiet_worker", lambda _: None)
    monkeypatch.setattr(bench, "node_cores", lambda: 2)
    for prefill in (None, "So:"):
        digests = where_tokens_are_made(model, prefill, recorder, tmp_path / str(prefill))
        chat = ChatTokenizer(model, False, prefill)
        asked = prompts.answer_messages(TOLD)
        assert digests == dict.fromkeys(digests, encoding_digest(chat.encode(asked)))
        assert "Context: Country 3: its capital is x.\n\nQuestion: What is" in chat.text(asked)
        assert chat.text(asked).endswith(chat.prefill)


def check_endings(engine: vllm.VllmEngine, recorder: Recorder, chat: ChatTokenizer) -> None:
    """No reply goes on after what ends a turn, whichever of its tokens that is."""
    recorder.outputs.clear()
    engine.sample([prompts.answer_messages(question) for question in QUESTIONS], list(range(len(QUESTIONS))), DECODING)
    replies = [list(output.token_ids) for request in recorder.outputs for output in request.outputs]
    ends = set(chat.stop_tokens)
    assert all(ends.isdisjoint(reply[:-1]) for reply in replies)
    assert {reply[-1] for reply in replies} >= ends, "some token that ends a turn was never said: sample more"


def where_tokens_are_made(model: Path, prefill: str | None, recorder: Recorder, scratch: Path) -> dict[str, str]:
    """The digest of the encoding of `TOLD` in each place; in style SAME all places encode the same chat."""
    scratch.mkdir()
    base, chat = resolve_model(str(model), None), ChatTokenizer(model, False, prefill)
    started = spec_of_an_experiment(base, chat, prefill, scratch)
    recorder.prompts.clear()
    task = examining.Task(
        answerer=base,
        judge=base,
        decoding=DECODING,
        style=PromptStyle.SAME,
        mode=LabelMode.BINARY,
        seed=0,
        backend="vllm",
        max_model_len=LONGEST,
        encoding=chat.digest,
    )
    examining.Examiner(task, started, str(scratch), str(scratch))(pa.Table.from_pylist([TOLD.to_row()]))
    write_judge(scratch / "judge", card_of(base, chat), None)
    with LocalJudge(scratch / "judge") as judge:
        judge.judge_many([TOLD.text], [TOLD.context])
        judge.answer([TOLD.text], [TOLD.context])
    places = ["sampling", "judging", "local judge", "local answer"]
    digests = {place: encoding_digest(ids) for place, ids in zip(places, recorder.prompts, strict=True)}
    return {**digests, "training": encoding_digest(trained_prompt(started, scratch))}


def spec_of_an_experiment(base: ModelRef, chat: ChatTokenizer, prefill: str | None, scratch: Path) -> EngineSpec:
    inputs = Inputs(
        questions=Questions(questions=(), dropped={}),
        context_cut={},
        base=base,
        prefill=chat.prefill,
        encoding=chat.digest,
        verdict_tokens=chat.word_tokens(WORDS),
    )
    config = RunConfig(model=base.name, chat=ChatConfig(prefill=prefill))
    experiment = Experiment(scratch)
    console = Console()
    return bench.Bench(
        config=config, experiment=experiment, inputs=inputs, console=console, room=Room(0, console), device="cpu", mode="swap"
    ).engine_spec()


def card_of(base: ModelRef, chat: ChatTokenizer) -> JudgeCard:
    return untrained_card(
        base.name,
        prompt_style=PromptStyle.SAME,
        verdict_tokens=chat.word_tokens(WORDS),
        prefill=chat.prefill,
        encoding=chat.digest,
        decoding={"max_tokens": 8},
        max_model_len=LONGEST,
    )


def trained_prompt(started: EngineSpec, scratch: Path) -> list[int]:
    """What training reads of `TOLD`."""
    lesson = Lesson(
        base=started.base,
        folder=str(scratch),
        parent=None,
        config=TrainConfig(),
        tuning="lora",
        style=PromptStyle.SAME,
        mode=LabelMode.BINARY,
        seed=0,
        epoch=1,
        device="cpu",
        cores=1,
        logs=str(scratch),
        trust_remote_code=False,
        prefill=started.prefill,
        deepspeed={},
    )
    chat = ChatTokenizer(lesson.base, lesson.trust_remote_code, lesson.prefill)
    row = {**TOLD.to_row(), "target": [1.0, 0.0], "weight": 1.0}
    return example_of(lesson, chat, row).tokens
