"""The judge that a job is to ask: found without loading anything heavy, and asked only as it was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from know_thyself.config import LabelConfig, RunConfig
from know_thyself.data.splits import Questions
from know_thyself.errors import ConfigError, JudgeError
from know_thyself.judge import JudgeCard, write_judge
from know_thyself.pipelines.inputs import Inputs
from know_thyself.pipelines.judges import find_judge
from know_thyself.prompts import PROMPT_VERSION
from know_thyself.types import LabelMode, ModelRef, PromptStyle


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    card = JudgeCard(
        experiment="one",
        epoch=0,
        base=str(tmp_path / "base"),
        base_digest="base",
        prompt_version=PROMPT_VERSION,
        prompt_style=PromptStyle.SYSTEM,
        label_mode=LabelMode.BINARY,
        verdict_words=("yes", "no"),
        verdict_tokens=(7, 8),
        prefill="",
        encoding="encoding",
        event="k/n >= 0.5",
        label_rule="can >= 1, uncertain >= 0.5",
        decoding={},
    )
    write_judge(tmp_path / "one" / "judge", card, None)
    return tmp_path / "one" / "judge"


def inputs(base: str = "base", encoding: str = "encoding") -> Inputs:
    return Inputs(
        questions=Questions(questions=(), dropped={}),
        context_cut={},
        base=ModelRef(name="base", digest=base),
        prefill="",
        encoding=encoding,
        verdict_tokens=(7, 8),
    )


def test_it_is_the_experiments_own_unless_another_is_named(judge: Path, tmp_path: Path) -> None:
    own = RunConfig(experiments_root=tmp_path, name="one")
    assert find_judge(own, inputs()).folder == judge
    other = RunConfig(experiments_root=tmp_path, name="two", judge=str(judge))
    assert find_judge(other, inputs()) == find_judge(own, inputs())
    assert not find_judge(own, inputs()).stale
    with pytest.raises(JudgeError, match="give the judge folder of a finished experiment"):
        find_judge(RunConfig(experiments_root=tmp_path, name="two"), inputs())


@pytest.mark.parametrize(
    ("changes", "told"),
    [({"base": "other"}, "belongs to a base of digest base"), ({"encoding": "other"}, "trained on a chat template of digest")],
)
def test_of_another_base_or_template_it_judges_only_when_told_to_and_is_marked(
    judge: Path, changes: dict[str, str], told: str
) -> None:
    with pytest.raises(JudgeError, match=told):
        find_judge(RunConfig(judge=str(judge)), inputs(**changes))
    assert find_judge(RunConfig(judge=str(judge), allow_stale=True), inputs(**changes)).stale


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"prompt_style": PromptStyle.ASKED}, "ask it with --prompt-style system"),
        ({"label_mode": LabelMode.UNCERTAINTY}, "ask it with --label-mode binary"),
        ({"tuning": "full"}, "ask it with --tuning lora"),
        (
            {"label": LabelConfig(uncertain_at=0.8)},
            "trained on labels can >= 1, uncertain >= 0.5, not can >= 1, uncertain >= 0.8",
        ),
    ],
)
def test_it_is_asked_the_way_it_was_trained(judge: Path, settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        find_judge(RunConfig(judge=str(judge), allow_stale=True, **settings), inputs())
