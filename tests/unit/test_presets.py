"""The presets: those of the prototype say what its README published, and every one says what we have not run."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jobs.prototype_flags import translate
from know_thyself.config import RunConfig, load_config, preset_path
from know_thyself.pipelines.dry_run import dry_run
from know_thyself.pipelines.study import knowledge_config

FOLDER = preset_path("world").parent
PROTOTYPE = {
    "prototype-triviaqa-qwen7b": "--model Qwen/Qwen2.5-7B-Instruct --dataset triviaqa --batch_size 16",
    "prototype-hotpotqa-qwen7b": "--model Qwen/Qwen2.5-7B-Instruct --dataset hotpotqa --batch_size 16",
    "prototype-triviaqa-gptoss20b": "--model openai/gpt-oss-20b --dataset triviaqa --batch_size 2",
    "prototype-hotpotqa-gptoss20b": "--model openai/gpt-oss-20b --dataset hotpotqa --batch_size 2",
}
TRAINABLE = {"openai/gpt-oss-20b": "unsloth/gpt-oss-20b-BF16"}
"""Models that were published quantised, which cannot be trained, and their copies in bf16."""
PUBLISHED = "--epochs 10 --num_gpus 8 --num_samples 20000 --num_val_samples 5000 --label_mode binary --lr 4e-6"
LORA = ("triviaqa-7b-lora", "hotpotqa-7b-lora")
STUDY = "three-phase-0.5b"
MULTIPHASE = "--model Qwen/Qwen2.5-0.5B-Instruct --dataset triviaqa --train_samples 10000 --test_samples 1000"


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("KT_")]:
        monkeypatch.delenv(name)


def load(*flags: str) -> RunConfig:
    return load_config(translate(flags), "python -m jobs.judgment")


@pytest.mark.parametrize(("preset", "flags"), PROTOTYPE.items())
def test_a_prototype_preset_is_its_published_command(preset: str, flags: str) -> None:
    config = load("--preset", preset)
    published = [TRAINABLE.get(word, word) for word in flags.split()]
    assert load("--preset", preset, *PUBLISHED.split(), *published) == config
    train = config.train
    assert (config.tuning, train.select, train.target, train.loss, train.zero_stage) == ("full", "wrong", "hard", "sequence", 3)
    assert train.patience >= train.epochs, "the prototype ran all its epochs"


@pytest.mark.parametrize("preset", LORA)
def test_our_own_presets_leave_the_answerer_alone(preset: str) -> None:
    config = load("--preset", preset)
    assert (config.tuning, config.train.target, config.train.loss) == ("lora", "soft", "verdict")
    assert (config.data.num_train, config.data.num_validation) == (20000, 5000)


def test_the_study_preset_is_the_prototype_s_published_command() -> None:
    flags = f"{MULTIPHASE} --inference_batch 512 --train_batch 32 --lr 1e-4 --knowledge_epochs 5".split()
    given = load_config(translate(["--preset", STUDY, *flags], study=True), "python -m jobs.three_phase")
    assert given.model_copy(update={"study": given.study.model_copy(update={"learning_rate": None})}) == load("--preset", STUDY)
    assert knowledge_config(given).learning_rate == knowledge_config(load("--preset", STUDY)).learning_rate == 1e-4


@pytest.mark.parametrize("preset", [*PROTOTYPE, *LORA, STUDY])
def test_what_was_never_run_says_so(preset: str) -> None:
    assert "Never run by us at this size" in (FOLDER / f"{preset}.toml").read_text()
    config = load("--preset", preset)
    assert (config.engine.device, config.train.precision, config.train.gradient_checkpointing) == ("cuda", "bf16", True)
    assert not config.data.closed_book
    assert config.engine.max_model_len >= (4096 if config.dataset == "hotpotqa" else 1024)


def test_every_preset_is_known_to_these_tests() -> None:
    assert {file.stem for file in FOLDER.glob("*.toml")} == {*PROTOTYPE, *LORA, STUDY, "world"}


@pytest.mark.parametrize("preset", [*PROTOTYPE, *LORA, STUDY, "world"])
def test_every_preset_dry_runs_without_a_network(preset: str, tmp_path: Path) -> None:
    planned = dry_run(load("--preset", preset, "--experiments-root", str(tmp_path)))
    assert planned["config"]["preset"] == preset
    assert not list(tmp_path.iterdir())
