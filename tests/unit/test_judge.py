"""The judge folder: what was written is what is read, and nothing else."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from know_thyself.digests import digest_file
from know_thyself.errors import JudgeError, StoreError
from know_thyself.evaluation.calibration import ClassMap
from know_thyself.judge import CARD, JudgeCard, check_answerer, check_base, check_encoding, read_judge, write_judge
from know_thyself.testing import fake_card
from know_thyself.types import LabelMode, ModelRef

BASE_DIGEST = "b" * 64
EMPTY = b"\x02\0\0\0\0\0\0\0{}"
"""A safetensors file without a tensor."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    (folder / "tokenizer_extra").mkdir(parents=True)
    for name in ("tokenizer.json", "chat_template.jinja", "config.json", "model.safetensors"):
        (folder / name).write_text(name)
    return folder


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """What training leaves: an adapter, and a whole model, each with a file that no judge takes along."""
    folder = tmp_path / "trained"
    for part, kept in (("adapter", "adapter_config.json"), ("model", "config.json")):
        (folder / part).mkdir(parents=True)
        for name in (kept, f"{part}_model.safetensors", "training_args.bin"):
            (folder / part / name).write_text('{"peft_type": "LORA"}')
        (folder / part / f"{part}_model.safetensors").write_bytes(EMPTY)
    return folder


@pytest.fixture
def judge(tmp_path: Path, base: Path, trained: Path) -> Path:
    write_judge(tmp_path / "judge", card(base), trained)
    return tmp_path / "judge"


def card(base: Path, **changes: Any) -> JudgeCard:
    settled = {"epoch": 2, "base": str(base), "base_digest": BASE_DIGEST, "calibration": None, "thresholds": ()}
    return fake_card(**{**settled, **changes})


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_judge_reads_back_as_it_was_written(tmp_path: Path, base: Path, trained: Path) -> None:
    written = write_judge(tmp_path / "deep" / "judge", card(base), trained)
    assert read_judge(tmp_path / "deep" / "judge") == written
    assert written.model_copy(update={"files": {}}) == card(base)
    files = ["adapter/adapter_config.json", "adapter/adapter_model.safetensors", "chat_template.jinja", "tokenizer.json"]
    assert sorted(written.files) == files
    assert names(tmp_path / "deep" / "judge") == sorted([*files, CARD])


def test_another_judge_has_another_digest_wherever_it_lies(base: Path) -> None:
    one = card(base)
    assert card(base.parent, experiment="two", thresholds=({"target_accuracy": 0.9},)).digest == one.digest
    changes: list[dict[str, Any]] = [
        {"base_digest": "c" * 64},
        {"files": {"adapter/adapter_model.safetensors": "d" * 64}},
        {"calibration": ClassMap.of((0.9, 0.5, 0.1), "calibration", 300)},
        {"decoding": {"temperature": 0.0}},
    ]
    assert len({one.digest, *(card(base, **change).digest for change in changes)}) == 1 + len(changes)


def test_a_judge_of_before_its_longest_prompt_was_written_down_was_given_the_default_of_then(judge: Path) -> None:
    rewrite(lambda content: content.pop("max_model_len"))(judge)
    assert read_judge(judge).max_model_len == 1024


def test_a_judge_of_before_its_reliability_was_kept_has_none_and_is_the_same_judge(judge: Path) -> None:
    kept = read_judge(judge)
    rewrite(lambda content: content.pop("reliability"))(judge)
    older = read_judge(judge)
    assert kept.reliability is not None
    assert (older.reliability, older.digest) == (None, kept.digest)


def test_a_fully_tuned_judge_brings_its_weights(judge: Path, base: Path, trained: Path) -> None:
    written = write_judge(judge, card(base, tuning="full"), trained)
    files = ["chat_template.jinja", "model/config.json", "model/model_model.safetensors", "tokenizer.json"]
    assert sorted(written.files) == files
    assert read_judge(judge) == written
    (judge / "model" / "model_model.safetensors").write_text("other weights")
    with pytest.raises(JudgeError, match="not as the judge was written"):
        read_judge(judge)


def test_its_calibration_reads_back_as_numbers(tmp_path: Path, base: Path) -> None:
    fitted = ClassMap.of((0.9, 0.5, 0.1), "calibration", 300)
    write_judge(tmp_path / "judge", card(base, label_mode=LabelMode.UNCERTAINTY, calibration=fitted), None)
    written = json.loads((tmp_path / "judge" / CARD).read_text())["calibration"]
    assert written == {"id": fitted.id, "weights": [0.9, 0.5, 0.1], "fitted_on": "calibration", "n": 300}
    assert read_judge(tmp_path / "judge").calibration == fitted


@pytest.mark.parametrize(
    "change", [{"weights": [0.9, 0.5, 0.2]}, {"weights": [2, 0, 0]}, {"n": 301}, {"id": "0" * 12}, {"x": 1}]
)
def test_a_calibration_that_was_changed_is_refused(tmp_path: Path, base: Path, change: dict[str, Any]) -> None:
    fitted = ClassMap.of((0.9, 0.5, 0.1), "calibration", 300)
    write_judge(tmp_path / "judge", card(base, calibration=fitted), None)
    rewrite(lambda content: content["calibration"].update(change))(tmp_path / "judge")
    with pytest.raises(JudgeError, match=r"judge\.json is damaged"):
        read_judge(tmp_path / "judge")


def test_a_new_judge_takes_the_place_of_the_old_one_whole(judge: Path, base: Path) -> None:
    write_judge(judge, card(base, epoch=0), None)
    assert read_judge(judge).epoch == 0
    assert names(judge) == ["chat_template.jinja", CARD, "tokenizer.json"]


def test_what_a_killed_writer_left_is_no_hindrance(judge: Path, base: Path, trained: Path) -> None:
    shutil.copytree(judge, judge.with_name(".judge.partial"))
    (judge.with_name(".judge.partial") / "adapter" / "torn.safetensors").write_text("torn")
    write_judge(judge, card(base, epoch=3), trained)
    assert read_judge(judge).epoch == 3
    assert not judge.with_name(".judge.partial").exists()


def test_a_full_disk_leaves_the_old_judge(judge: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(StoreError, match="MiB free"):
        write_judge(judge, card(base, epoch=3), None)
    assert read_judge(judge).epoch == 2


def test_files_that_no_judge_is_loaded_from_may_stand_beside_it(judge: Path) -> None:
    (judge / "README.md").write_text("a model card")
    assert read_judge(judge).epoch == 2


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / CARD).read_text())
        change(content)
        (folder / CARD).write_text(json.dumps(content))

    return apply


def planted(name: str) -> Callable[[Path], None]:
    """The card lists a file outside the judge, with its true digest."""

    def apply(folder: Path) -> None:
        (folder.parent / "outside.json").write_text("tokenizer.json")
        digest = read_judge(folder).files["tokenizer.json"]
        rewrite(lambda content: content["files"].update({name.format(folder=folder.parent): digest}))(folder)

    return apply


def make_card_a_folder(folder: Path) -> None:
    (folder / CARD).unlink()
    (folder / CARD).mkdir()


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (shutil.rmtree, "holds no judge.json"),
    "no card": (lambda folder: (folder / CARD).unlink(), "holds no judge.json"),
    "card is a folder": (make_card_a_folder, "holds no judge.json"),
    "card torn": (lambda folder: os.truncate(folder / CARD, 50), "judge.json is damaged"),
    "card not UTF-8": (lambda folder: (folder / CARD).write_bytes(b"\xff"), "judge.json is damaged"),
    "card of another schema": (rewrite(lambda content: content.update(schema_version=2)), "judge.json is damaged"),
    "unknown key": (rewrite(lambda content: content.update(surprise=1)), "judge.json is damaged"),
    "key missing": (rewrite(lambda content: content.pop("event")), "judge.json is damaged"),
    "other prompts": (rewrite(lambda content: content.update(prompt_version="0")), "trained on prompts 0, this version asks"),
    "adapter changed": (
        lambda folder: (folder / "adapter" / "adapter_model.safetensors").write_text("x"),
        "'adapter/adapter_model.safetensors' is not as the judge was written",
    ),
    "template changed": (lambda folder: (folder / "chat_template.jinja").write_text("x"), "'chat_template.jinja' is not as"),
    "template lost": (lambda folder: (folder / "chat_template.jinja").unlink(), "'chat_template.jinja' is not as"),
    "adapter lost": (lambda folder: shutil.rmtree(folder / "adapter"), "'adapter/adapter_config.json' is not as"),
    "template added": (lambda folder: (folder / "chat_template.json").write_text("{}"), "'chat_template.json' is not as"),
    "pickle added": (lambda folder: (folder / "adapter" / "adapter_model.bin").write_text(""), "'adapter/adapter_model.bin'"),
    "path upwards": (planted("../outside.json"), "'../outside.json' is not as the judge was written"),
    "path upwards by way of the adapter": (planted("adapter/../../outside.json"), "outside.json' is not as"),
    "absolute path": (planted("{folder}/outside.json"), "outside.json' is not as"),
    "path with a NUL": (planted("\0"), "is not as the judge was written"),
}


@pytest.mark.parametrize(("damage", "told"), DAMAGE.values(), ids=DAMAGE)
def test_a_judge_that_is_not_as_written_is_refused(damage: Callable[[Path], Any], told: str, judge: Path) -> None:
    damage(judge)
    with pytest.raises(JudgeError) as caught:
        read_judge(judge)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def planted_in(name: str, content: bytes) -> Callable[[Path], None]:
    """A file of the trained weights replaced, and the card made to agree."""

    def apply(folder: Path) -> None:
        (folder / name).write_bytes(content)
        digest = digest_file(folder / name)
        rewrite(lambda content: content["files"].update({name: digest}))(folder)

    return apply


HOSTILE: dict[str, tuple[str, bytes, str]] = {
    "bad header": ("adapter/adapter_model.safetensors", b"\xff" * 8, "has a damaged adapter_model.safetensors"),
    "DoRA": ("adapter/adapter_config.json", b'{"peft_type": "LORA", "use_dora": true}', "has use_dora=True"),
    "settings torn": ("adapter/adapter_config.json", b'{"peft_type', "has no adapter_config.json that can be read"),
}


@pytest.mark.parametrize(("name", "content", "told"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_judge_whose_card_agrees_is_refused(name: str, content: bytes, told: str, judge: Path) -> None:
    planted_in(name, content)(judge)
    with pytest.raises(JudgeError) as caught:
        read_judge(judge)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_a_hostile_full_judge_is_refused(judge: Path, base: Path, trained: Path) -> None:
    write_judge(judge, card(base, tuning="full"), trained)
    planted_in("model/model_model.safetensors", b"torn")(judge)
    with pytest.raises(JudgeError, match=r"has a damaged model_model\.safetensors"):
        read_judge(judge)


def test_a_judge_answers_by_its_base_unless_it_is_tuned_whole(judge: Path, base: Path, trained: Path) -> None:
    beside, other = read_judge(judge), card(base, base_digest="c" * 64)
    whole = write_judge(judge, card(base, tuning="full"), trained)
    untrained = write_judge(judge, card(base, tuning="full"), None)
    check_answerer(beside, untrained)
    check_answerer(whole, whole)
    for one in (whole, other):
        with pytest.raises(JudgeError, match="is of another model than the one that answers here"):
            check_answerer(one, beside)


def test_a_judge_serves_its_own_base_alone(base: Path) -> None:
    check_base(card(base), ModelRef(name="elsewhere", digest=BASE_DIGEST))
    with pytest.raises(JudgeError, match="belongs to a base of digest bbbbbbbbbbbb, but other has cccccccccccc"):
        check_base(card(base), ModelRef(name="other", digest="c" * 64))


def test_a_judge_is_read_through_its_own_template_alone(base: Path) -> None:
    check_encoding(card(base), "e" * 64)
    with pytest.raises(
        JudgeError, match="trained on a chat template of digest eeeeeeeeeeee, but its base is read through one of f"
    ):
        check_encoding(card(base), "f" * 64)
