"""A study without a model: how its judges are held against each other, what its page says, and what cannot be studied."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from know_thyself.config import LabelConfig, RunConfig, StudyConfig, TrainConfig
from know_thyself.errors import ConfigError
from know_thyself.evaluation.bootstrap import Gain
from know_thyself.evaluation.evidence import Examined, scores_of
from know_thyself.evaluation.ledger import changes, ledger_examples
from know_thyself.evaluation.report.study import StudyReport, findings, render_study
from know_thyself.evaluation.study import (
    GATES,
    V1_AFTER,
    V1_BEFORE,
    V2_AFTER,
    examined_by_all,
    judge_facts,
    ledger_by_pool,
    paired_facts,
)
from know_thyself.pipelines.study import check_study, knowledge_config
from know_thyself.pipelines.study_table import study_tables
from know_thyself.pipelines.teaching import Lessons
from know_thyself.types import LabelMode, Pool, Question
from tests.unit.test_evidence import examined
from tests.unit.test_report import HOSTILE, Page

NUM = 60
RNG = np.random.default_rng(0)
KNEW = RNG.choice([0, 2, 5], NUM).tolist()
KNOWS = [5 if k == 0 and i % 3 else k for i, k in enumerate(KNEW)]


def judge(knows: list[int], believes: list[int]) -> list[Examined]:
    """Questions of which `knows` of five are right, judged as if `believes` were."""
    noise = np.random.default_rng(1).uniform(-0.2, 0.2, NUM)
    return examined(knows, np.clip(0.5 + 0.6 * (np.array(believes) / 5 - 0.5) + noise, 0, 1).tolist())


BY_JUDGE = {V1_BEFORE: judge(KNEW, KNEW), V1_AFTER: judge(KNOWS, KNEW), V2_AFTER: judge(KNOWS, KNOWS)}
SCORES = {name: dict.fromkeys(Pool, scores_of(found, LabelMode.BINARY, None)) for name, found in BY_JUDGE.items()}
CONTENT: dict[str, Any] = {
    "schema": 1,
    "model": HOSTILE,
    "dataset": "d",
    "label_mode": "binary",
    "tuning": "lora",
    "seed": 0,
    "teaching": {
        "taught": 9,
        "rehearsed": 18,
        "doubted": 3,
        "wondered": 54,
        "guarded": 4,
        "best_round": 2,
        "rounds": [{"round": r, "learned": 0.4 * r, "rehearsed": 0.99, "kept": None} for r in (1, 2)],
    },
    "judges": judge_facts(SCORES, dict.fromkeys(Pool, NUM + 1)),
    "paired": paired_facts(SCORES),
    "ledger": ledger_by_pool(dict.fromkeys(Pool, BY_JUDGE[V1_BEFORE]), dict.fromkeys(Pool, BY_JUDGE[V2_AFTER])),
}


def test_a_stale_judge_is_worse_than_its_successor() -> None:
    stale = CONTENT["paired"]["stale"][Pool.TAUGHT_HELD_OUT]
    updated = CONTENT["paired"]["updated"][Pool.TAUGHT_HELD_OUT]
    for measure in ("auroc", "brier"):
        assert stale[measure]["low"] > 0
        assert updated[measure]["low"] < 0.03 < stale[measure]["difference"]
    assert {pool for pool, gain in CONTENT["paired"]["stale"].items() if gain["gate"]} == set(GATES)
    assert Pool.JUDGED_TAUGHT not in GATES


def test_every_judge_has_its_numbers_on_every_pool() -> None:
    assert CONTENT["judges"][V2_AFTER][Pool.NEVER_SEEN]["dropped"] == 1
    assert CONTENT["judges"][V1_AFTER][Pool.NEVER_SEEN]["auroc"] < CONTENT["judges"][V2_AFTER][Pool.NEVER_SEEN]["auroc"]


def test_judges_are_paired_on_the_questions_that_all_of_them_have() -> None:
    whole = judge(KNOWS, KNOWS)
    fewer = [e for e in whole if e.label.all_correct or int(e.question.id[1:]) % 2]
    shared = examined_by_all({V1_BEFORE: {"p": whole}, V1_AFTER: {"p": whole[1:]}, V2_AFTER: {"p": fewer}})
    found = {name: [e.question.id for e in parts["p"]] for name, parts in shared.items()}
    expected = [e.question.id for e in fewer if e is not whole[0]]
    assert found == dict.fromkeys(found, expected)
    assert 0 < len(expected) < NUM - 1


def test_the_finding_is_what_the_interval_carries() -> None:
    assert findings(CONTENT)[0].startswith("A judge must be trained anew when its model learns")
    shown = {(0.0, -0.1, 0.1): "It is not shown", (-0.2, -0.3, -0.1): "made it worse", None: "cannot be said"}
    for gain, told in shown.items():
        brier = gain and Gain(*gain)._asdict()
        gains = {"auroc": None, "brier": brier, "gate": True}
        paired = {**CONTENT["paired"], "stale": {**CONTENT["paired"]["stale"], Pool.TAUGHT_HELD_OUT: gains}}
        assert told in findings({**CONTENT, "paired": paired})[0]


def test_the_page_is_whole_and_nothing_escapes_from_it() -> None:
    examples = ledger_examples(changes(BY_JUDGE[V1_BEFORE], BY_JUDGE[V2_AFTER]))
    examples["learned"][0]["question"] = HOSTILE
    text = render_study(StudyReport(name="s", study=CONTENT, scores=SCORES, examples={"taught": examples}))
    page = Page(text)
    assert "script" not in page.tags
    assert text.count("<svg") == 2 * len(Pool)
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text
    assert "script-src" not in text
    assert text == render_study(StudyReport(name="s", study=CONTENT, scores=SCORES, examples={"taught": examples}))


def test_a_round_shows_what_is_taught_and_another_reply_of_ones_own_to_the_rest() -> None:
    new, known, unknown = (Question(id=name, text=f"What is {name}?", answers=(name,), group=name) for name in "abc")
    replies = {"a": ["x", "y"], "b": ["b", "b"], "c": ["x", "y"]}
    lessons = Lessons(taught=(new,), rehearsed=(known,), doubted=(unknown,), guarded=(), replies=replies, emphasis=4.0)
    shown = [[(row["id"], row["reply"], row["weight"]) for row in lessons.rows(number)] for number in (1, 2, 3)]
    first, second = [("a", "a", 4.0), ("b", "b", 1.0), ("c", "x", 1.0)], [("a", "a", 4.0), ("b", "b", 1.0), ("c", "y", 1.0)]
    assert shown == [first, second, first]
    assert unknown not in lessons.tested, "what is not known need not be tested"


def test_each_pass_of_a_round_shows_other_questions_that_the_model_asked_itself() -> None:
    new = Question(id="a", text="What is a?", answers=("a",), group="a")
    wondered = tuple({"id": f"w{number}"} for number in range(4))
    lessons = Lessons(
        taught=(new,), rehearsed=(), doubted=(), guarded=(), replies={}, emphasis=1.0, passes=2, wondered=wondered
    )
    shown = [row["id"] for row in lessons.rows(1)]
    assert shown == ["a", "w0", "w2", "a", "w1", "w3"]
    assert [row["id"] for row in lessons.rows(2)] == shown


def test_the_tables_show_judges_and_ledger() -> None:
    judges, ledger = study_tables(CONTENT)
    assert (judges.row_count, ledger.row_count) == (3, len(Pool))
    assert "v2 better than the stale v1 on taught, held out, paired: +" in str(judges.caption)


REFUSED = {
    "logs": (RunConfig(label=LabelConfig(source="logs")), "label.source=logs: a study asks its model"),
    "a start in the middle": (RunConfig(start_epoch=2), "start-epoch=2 is for jobs.judgment"),
    "no answers of its own": (RunConfig(skip_collect=True), "skip-collect: a study asks its model again after every round"),
    "the hub": (RunConfig(model="a/b", push_to_hub="c/d"), "push-to-hub=c/d: the judge of a study"),
    "a batch that cannot be split": (
        RunConfig(train=TrainConfig(workers=4), study=StudyConfig(batch_size=6)),
        "study: batch-size=6 cannot be split over workers=4",
    ),
}


@pytest.mark.parametrize(("config", "told"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_studied_is_one_clear_line(config: RunConfig, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_study(config)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_teaching_goes_by_its_own_settings_and_by_those_of_training() -> None:
    train = TrainConfig(batch_size=64, micro_batch_size=4, workers=2, zero_stage=3, learning_rate=0.5, select="wrong")
    config = RunConfig(train=train, study=StudyConfig(rounds=7, passes=3, batch_size=16))
    found = knowledge_config(config)
    assert (found.epochs, found.passes, found.batch_size, found.micro_batch_size) == (7, 1, 16, 4)
    assert (found.workers, found.zero_stage, found.learning_rate) == (2, 3, 1e-4)
    assert knowledge_config(config.model_copy(update={"tuning": "full"})).learning_rate == 1e-5
    assert knowledge_config(config.model_copy(update={"train": train.model_copy(update={"micro_batch_size": 16})})) == (
        found.model_copy(update={"micro_batch_size": None})
    )
