"""What an engine's actor tells of its use, batch by batch, beside the stage that it works for."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from know_thyself.engine.protocol import Decoding, EngineSpec
from know_thyself.experiment.usage import used_by
from know_thyself.stages import examining
from know_thyself.types import LabelMode, ModelRef, PromptStyle, Question

MODEL = ModelRef(name="fake", digest="fake")
QUESTIONS = [Question(id=f"q{number}", text=f"Which is number {number}?", answers=("it",)) for number in range(4)]


def task(*, samples: bool, judges: bool) -> examining.Task:
    return examining.Task(
        answerer=MODEL if samples else None,
        judge=MODEL if judges else None,
        decoding=Decoding(num_trials=3, temperature=0.7, top_p=1.0, max_tokens=8),
        style=PromptStyle.SYSTEM,
        mode=LabelMode.BINARY,
        seed=0,
        backend="know_thyself.testing:FakeEngine",
        max_model_len=256,
        encoding="fake",
    )


@pytest.mark.parametrize(("samples", "judges"), [(True, True), (True, False), (False, True)])
def test_an_actor_tells_what_it_was_held_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: bool, judges: bool
) -> None:
    monkeypatch.setattr(examining, "quiet_worker", lambda log: None)
    spec = EngineSpec(base="fake", device="cpu", mode="swap", max_model_len=256)
    actor = examining.Examiner(task(samples=samples, judges=judges), spec, str(tmp_path / "stages" / "examine-0"), "unused")
    for batch in (QUESTIONS[:3], QUESTIONS[3:]):
        actor(pa.Table.from_pylist([question.to_row() for question in batch]))
    told = used_by(tmp_path)
    assert list(told) == ["start"] + ["sample"] * samples + ["judge"] * judges
    if samples:
        assert (told["sample"].times, told["sample"].questions, told["sample"].answers) == (2, 4, 12)
        assert told["sample"].written == 12 * 3  # three tokens each, as the fake has it
        assert told["sample"].characters > told["sample"].read > 4 * len("Which is number?".split())
    if judges:
        assert (told["judge"].questions, told["judge"].answers, told["judge"].written) == (4, 0, 0)
        assert told["judge"].read > 0
