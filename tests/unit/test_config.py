"""Settings: the layers in their order, and every wrong setting as one line that holds the value and a remedy."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from know_thyself.config import RunConfig, TrainConfig, load_config, preset_path
from know_thyself.errors import ConfigError
from know_thyself.types import LabelMode, PromptStyle

PRESETS = sorted(file.stem for file in preset_path("world").parent.glob("*.toml"))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("KT_")]:
        monkeypatch.delenv(name)


def load(*flags: str) -> RunConfig:
    return load_config(flags, "python -m jobs.judgment")


def preset(folder: Path, text: str | bytes) -> str:
    path = folder / "own.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def test_flags_beat_environment_beats_preset_beats_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = preset(tmp_path, "seed = 1\n[train]\nepochs = 5\npasses = 2\nbatch_size = 64\n[train.lora]\nr = 4\n")
    monkeypatch.setenv("KT_TRAIN__EPOCHS", "6")
    monkeypatch.setenv("KT_TRAIN__PASSES", "7")
    train = load("--preset", own, "--train.epochs", "8").train
    assert (train.epochs, train.passes, train.batch_size, train.lora.r) == (8, 7, 64, 4)
    assert train.lora.alpha == TrainConfig().lora.alpha
    assert load("--preset", own).seed == 1
    assert load().seed == 0


def test_a_preset_can_come_from_the_environment_and_the_last_flag_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KT_PRESET", "world")
    assert load().engine.max_model_len == 256
    assert load("--seed", "1", "--seed", "2").seed == 2


def test_the_root_of_experiments_has_a_short_variable_that_beats_a_preset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = preset(tmp_path, 'experiments_root = "from-preset"')
    monkeypatch.setenv("KT_EXPERIMENTS", "short")
    assert load("--preset", own).experiments_root == Path("short")
    monkeypatch.setenv("KT_EXPERIMENTS_ROOT", "long")
    assert load("--preset", own).experiments_root == Path("long")
    assert load("--preset", own, "--experiments-root", "flag").experiments_root == Path("flag")


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_loads(name: str) -> None:
    assert load("--preset", name).preset == name


def test_three_verdicts_and_hard_targets_can_be_asked_for() -> None:
    config = load("--label-mode", "uncertainty", "--train.target", "hard", "--sampling.num-trials", "2")
    assert (config.label_mode, config.train.target) == (LabelMode.UNCERTAINTY, "hard")
    assert load().train.target == "soft"


@pytest.mark.parametrize(("given", "kept", "least", "most"), [("2", 2, 2, 2), ("1..4", "1..4", 1, 4), ("3..3", 3, 3, 3)])
def test_workers_are_a_number_or_a_range(given: str, kept: int | str, least: int, most: int, tmp_path: Path) -> None:
    own = preset(tmp_path, f"[train]\nworkers = {kept!r}\nbatch_size = 12")
    for train in (load("--preset", own).train, load("--train.workers", given, "--train.batch-size", "12").train):
        assert (train.workers, train.workers_min, train.workers_max) == (kept, least, most)
        assert train.is_elastic == (least < most)
        assert TrainConfig.model_validate_json(train.model_dump_json()) == train


def test_underscores_in_flags_are_read_as_dashes() -> None:
    config = load("--sampling.num_trials", "7", "--train.learning_rate=1e-3", "--prompt_style", "asked", "--dry_run")
    assert (config.sampling.num_trials, config.train.learning_rate) == (7, 1e-3)
    assert config.prompt_style is PromptStyle.ASKED
    assert config.dry_run


def test_orders_to_the_fakes_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KT_FAKE_DELAY", "0.1")
    assert load() == RunConfig()


WRONG_FLAGS = {
    "unknown flag": (["--train.epoch", "3"], "--train.epoch 3"),
    "unknown flag beside a wrong value": (["--no-such", "1", "--seed", "x"], "--no-such 1"),
    "abbreviated flag": (["--see", "3"], "--see 3"),
    "no flag": (["world"], "world"),
    "no value": (["--seed"], "--seed"),
    "empty value": (["--seed", ""], "seed=''"),
    "word for a number": (["--train.epochs", "many"], "train.epochs='many'"),
    "fraction for a count": (["--sampling.num-trials", "2.5"], "sampling.num_trials='2.5'"),
    "huge number": (["--seed", "9" * 5000], "seed='999"),
    "not a number": (["--train.learning-rate", "nan"], "train.learning_rate='nan'"),
    "infinite": (["--train.learning-rate", "inf"], "train.learning_rate='inf'"),
    "zero": (["--train.learning-rate", "0"], "train.learning_rate='0'"),
    "negative": (["--seed", "-1"], "seed='-1'"),
    "too large": (["--data.dev", "0.5"], "data.dev='0.5'"),
    "unknown choice": (["--train.select", "some"], "'wrong', 'all' or 'weighted'"),
    "unknown mode": (["--label-mode", "maybe"], "'binary' or 'uncertainty'"),
    "value for a switch": (["--dry-run", "maybe"], "maybe"),
    "no model": (["--model", ""], "model=''"),
    "no layer": (["--train.lora.targets", ""], "train.lora.targets"),
    "layer of the vocabulary": (["--train.lora.targets", "q_proj,lm_head"], "targets=lm_head holds the vocabulary"),
    "layer of the vocabulary by its place": (
        ["--train.lora.targets", "model.embed_tokens"],
        "targets=model.embed_tokens holds",
    ),
    "DoRA": (["--train.lora.use_dora", "true"], "--train.lora.use-dora: engines load plain LoRA on linear layers alone"),
    "layers saved whole": (
        ["--train.lora.modules-to-save=lm_head"],
        "--train.lora.modules-to-save=lm_head: engines load plain",
    ),
    "name with a path": (["--name", "../secrets"], "name='../secrets'"),
    "name with a line end": (["--name", "a\nb"], r"name='a\nb'"),
    "reserved name": (["--name", "latest"], "name=latest"),
    "thresholds crossed": (["--label.can-at", "0.4"], "uncertain-at=0.5 is above can-at=0.4"),
    "actors crossed": (["--engine.actors-min", "3"], "actors-min=3 is above actors-max=1"),
    "indivisible batch": (["--train.workers", "3"], "batch-size=32 cannot be split over workers=3"),
    "no workers": (["--train.workers", "0"], "train.workers='0': give a number of workers such as 2, or a range such as 1..4"),
    "workers crossed": (["--train.workers", "4..2"], "train.workers='4..2': give a number"),
    "half a range": (["--train.workers", "2.."], "train.workers='2..': give a number"),
    "more workers than examples": (
        ["--train.workers", "1..64"],
        "batch-size=32 leaves some of workers=1..64 without an example",
    ),
    "dropout on changing workers": (
        ["--train.workers", "1..4", "--train.lora.dropout", "0.1"],
        "lora.dropout=0.1 draws other masks on other workers, and workers=1..4 may change",
    ),
    "greedy trials": (["--sampling.temperature", "0"], "--sampling.num-trials 1"),
    "no room for a question": (["--sampling.max-tokens", "1024"], "engine.max-model-len=1024"),
    "one trial for three classes": (
        ["--label-mode", "uncertainty", "--sampling.num-trials", "1"],
        'num-trials=1 cannot yield "uncertain": use 2 or more, or --label-mode binary',
    ),
    "no room for uncertain": (
        ["--label-mode", "uncertainty", "--label.can-at", "0.5"],
        'label.uncertain-at=0.5 and label.can-at=0.5 leave no "uncertain" in num-trials=5',
    ),
    "trials too few for uncertain": (
        ["--label-mode", "uncertainty", "--label.uncertain-at", "0.6", "--sampling.num-trials", "2"],
        'label.uncertain-at=0.6 and label.can-at=1.0 leave no "uncertain" in num-trials=2',
    ),
    "unknown target": (["--train.target", "sharp"], "'soft' or 'hard'"),
    "unknown preset": (["--preset", "../world"], "choose one of"),
    "preset that is a folder": (["--preset", "/"], "choose one of"),
    "preset without a name": (["--preset"], "--preset world"),
}


@pytest.mark.parametrize(("flags", "told"), WRONG_FLAGS.values(), ids=WRONG_FLAGS)
def test_a_wrong_flag_is_one_clear_line(flags: list[str], told: str) -> None:
    expect_one_line(flags, told)


WRONG_PRESETS = {
    "unknown key": ("sede = 1", "'sede'"),
    "DoRA": ("[train.lora]\nuse_dora = true", "train.lora.use_dora=True: engines load plain LoRA on linear layers alone"),
    "unknown key in a section": ("[train]\nepocs = 1", "train.epocs=1"),
    "key of the settings library": ("_env_file = 'x'", "'_env_file'"),
    "wrong type": ("seed = 'x'", "seed='x'"),
    "table for a number": ("seed = { a = 1 }", "seed: "),
    "number for a section": ("train = 3", "train=3"),
    "list of sections": ("[[train]]\nepochs = 1", "train="),
    "no TOML": ("seed: 1", "own.toml cannot be read as TOML"),
    "no UTF-8": (b"\xff\xfes", "own.toml cannot be read as TOML"),
}


@pytest.mark.parametrize(("text", "told"), WRONG_PRESETS.values(), ids=WRONG_PRESETS)
def test_a_wrong_preset_is_one_clear_line(text: str | bytes, told: str, tmp_path: Path) -> None:
    expect_one_line(["--preset", preset(tmp_path, text)], told)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KT_SEDE", "1"),
        ("kt_sede", "1"),
        ("KT_TRAIN_EPOCHS", "1"),
        ("KT_TRAIN__EPOCS", "1"),
        ("KT_SEED__X", "1"),
        ("KT_TRAIN", "{bad"),
        ("KT_TRAIN__EPOCHS", "many"),
        ("KT_TRAIN__LORA__TARGETS", "q_proj"),
        ("KT_TRAIN__LORA__MODULES_TO_SAVE", "[]"),
    ],
)
def test_a_wrong_environment_is_one_clear_line(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    told = {
        "KT_TRAIN__EPOCHS": "train.epochs='many'",
        "KT_TRAIN__LORA__TARGETS": "JSON",
        "KT_TRAIN__LORA__MODULES_TO_SAVE": "MODULES_TO_SAVE is no setting: engines load plain LoRA",
    }
    expect_one_line([], told.get(name, name))


def expect_one_line(flags: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 400
    assert caught.value.exit_code == 2


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(ConfigError, match=r"seed='x'.*; train\.epochs='y'"):
        load("--seed", "x", "--train.epochs", "y")


def test_settings_are_frozen_through_and_through() -> None:
    config = load()
    for section, field in ((config, "seed"), (config.train, "epochs"), (config.train.lora, "r")):
        with pytest.raises(ValidationError, match="frozen"):
            setattr(section, field, 1)


def test_saved_settings_hold_nothing_else_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "planted-secret")
    saved = load("--preset", "world").model_dump_json()
    assert "planted-secret" not in saved
    assert RunConfig.model_validate_json(saved) == load("--preset", "world")


def test_help_names_every_setting_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        load("--help")
    told = " ".join(capsys.readouterr().out.split())
    assert "--train.lora.r int Rank." in told
    assert "--engine.block-rows int Questions committed together" in told
