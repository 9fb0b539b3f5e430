"""The prototype's flags as spelled: each means what it meant there, and none is swallowed."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import pytest

from jobs.prototype_flags import FLAGS, REFUSED, STUDY_FLAGS, translate
from know_thyself.config import RunConfig, load_config
from know_thyself.errors import ConfigError

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "coming-from-the-prototype.md"


def shown(document: Path) -> list[tuple[str, str]]:
    """Every job that `document` shows how to start, with its flags, each once."""
    found = re.findall(r"python -m jobs\.(\w+) +(--[^`#\n]*)", document.read_text().replace("\\\n", ""))
    return list(dict.fromkeys((job, " ".join(flags.split())) for job, flags in found))


WRITTEN_OUT = [flags for job, flags in shown(DOCUMENT) if job == "judgment" and "--model" in flags]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.upper().startswith("KT_")]:
        monkeypatch.delenv(name)


def load(*flags: str, job: str = "judgment") -> RunConfig:
    return load_config(translate(flags, study=job == "three_phase"), f"python -m jobs.{job}")


def test_the_prototypes_first_command_means_what_it_meant() -> None:
    command = """--model Qwen/Qwen2.5-7B-Instruct --dataset hotpotqa --epochs 10 --num_gpus 8 --num_samples 20000
        --num_val_samples 5000 --label_mode binary --lr 4e-6 --batch_size 16"""
    config = load(*command.split())
    train = config.train
    assert (config.model, config.dataset, config.label_mode) == ("Qwen/Qwen2.5-7B-Instruct", "hotpotqa", "binary")
    assert (config.data.num_train, config.data.num_validation) == (20000, 5000)
    assert not config.data.closed_book, "HotpotQA is asked with its context"
    assert (train.epochs, train.learning_rate) == (10, 4e-6)
    assert (train.batch_size, train.micro_batch_size, train.workers, config.engine.actors_max) == (128, 16, 8, 8)


def test_the_flags_of_its_other_pipeline_and_of_going_on() -> None:
    command = """--train_samples 900 --test_samples 90 --inference_batch 512 --train_batch 32 --num_trials 7 --lora_r 8
        --lora_alpha 24 --no_lora --experiment mine --resume --skip_collect --start_epoch 2"""
    config = load(*command.split())
    assert (config.data.num_train, config.data.num_validation, config.engine.batch_size) == (900, 90, 512)
    assert (config.train.batch_size, config.sampling.num_trials) == (32, 7)
    assert (config.train.lora.r, config.train.lora.alpha, config.tuning, config.name) == (8, 24, "full", "mine")
    assert (config.skip_collect, config.start_epoch) == (True, 2)


def test_a_flag_is_known_with_its_value_attached_with_dashes_and_the_last_counts() -> None:
    config = load("--num-gpus=2", "--batch-size=4", "--num_gpus", "3", "--inference_batch_size=9", "--lr", "1", "--lr=2")
    assert (config.train.batch_size, config.train.workers, config.engine.batch_size) == (12, 3, 9)
    assert config.train.learning_rate == 2


def test_an_output_folder_is_root_and_name() -> None:
    for given in ("runs/of/mine", "runs/of/mine/", "runs/of/mine/."):
        config = load("--output_dir", given)
        assert (config.experiments_root, config.name) == (Path("runs/of"), "mine")
    assert load("--output_dir", "mine").experiments_root == Path()


def test_what_is_ours_passes_untouched() -> None:
    ours = ["--sampling.num_trials", "7", "--train.batch-size=64", "--preset", "world", "--dry-run", "--chat.prefill", "a=b"]
    assert translate(ours) == ours
    assert load("--sampling.num_trials", "7").sampling.num_trials == 7


def test_no_spelling_of_the_prototype_hides_a_flag_of_ours() -> None:
    assert {f"--{name}" for name in RunConfig.model_fields} & {*FLAGS, *STUDY_FLAGS} == set()


WRONG = {
    "value of another type": (["--num_samples", "many"], "data.num_train='many'"),
    "value out of bounds": (["--epochs", "-1"], "train.epochs='-1'"),
    "batch without GPUs": (
        ["--batch_size", "16"],
        "--batch_size 16 is the batch of one GPU, as in the prototype: add --num_gpus",
    ),
    "batch of another type": (["--batch_size", "1.5", "--num_gpus", "2"], "--batch_size 1.5: give a whole number"),
    "GPUs of another type": (["--batch_size", "2", "--num_gpus", "all"], "--num_gpus all: give a whole number"),
    "no GPUs": (["--num_gpus", "0"], "train.workers='0'"),
    "no value": (["--lr"], "--lr has no value"),
    "a flag for a value": (["--output_dir", "--resume"], "--output_dir has no value"),
    "no folder": (["--output_dir", "/"], "--output_dir / names no folder of its own"),
    "no folder above": (["--output_dir", "runs/.."], "--output_dir runs/.. names no folder of its own"),
    "no name": (["--output_dir", "runs/my run"], "name='my run'"),
    "value for a switch": (["--no_lora=yes"], "--no_lora takes no value"),
    "phase": (["--phase", "2"], "--phase: it chooses a phase of the three-phase pipeline"),
    "knowledge": (["--knowledge_epochs=5"], "--knowledge_epochs=5: it belongs to the three-phase pipeline"),
    "epoch beyond the last": (["--epochs", "3", "--start_epoch", "5"], "start-epoch=5 comes after the last of train.epochs=3"),
}


@pytest.mark.parametrize(("flags", "told"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_honoured_is_one_clear_line(flags: list[str], told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(*flags)
    assert told in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


STUDY = [
    "--model",
    "m",
    "--train_samples",
    "100",
    "--inference_batch",
    "512",
    "--train_batch",
    "64",
    "--no_lora",
    "--lr",
    "1e-5",
]


def test_the_three_phase_job_trains_knowledge_with_the_same_flags() -> None:
    config = load_config(translate([*STUDY, "--knowledge_epochs", "5", "--phase", "2"], study=True), "study")
    assert (config.tuning, config.phase) == ("full", 2)
    assert (config.train.batch_size, config.study.batch_size) == (64, 64)
    assert (config.train.learning_rate, config.study.learning_rate) == (1e-5, 1e-5)
    assert (config.study.rounds, config.study.passes) == (5, 1)


@pytest.mark.parametrize("flag", STUDY_FLAGS)
def test_the_document_shows_what_a_flag_means_to_the_three_phase_job(flag: str) -> None:
    rows = [line.split("|")[1:3] for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| three_phase: `{flag}` |")]
    assert rows == [[f" three_phase: `{flag}` ", f" `{STUDY_FLAGS[flag]}` "]]


@pytest.mark.parametrize("flag", [*FLAGS, *REFUSED])
def test_the_document_shows_every_flag_with_its_translation(flag: str) -> None:
    rows = [line.split("|")[1:3] for line in DOCUMENT.read_text().splitlines() if line.startswith(f"| `{flag}` |")]
    translation = f" `{FLAGS[flag]}` " if FLAGS.get(flag) else " " if flag in FLAGS else " refused "
    assert rows == [[f" `{flag}` ", translation]]


@pytest.mark.parametrize("document", [DOCUMENT, ROOT / "README.md"], ids=lambda path: path.stem)
def test_every_command_that_is_shown_resolves(document: Path) -> None:
    commands = [(job, shlex.split(flags)) for job, flags in shown(document)]
    assert len(commands) > 8
    for job, words in commands:
        given = dict(zip(words, [*words[1:], ""], strict=True))
        config = load(*words, job=job)
        assert (config.preset, config.dataset) == (given.get("--preset"), given.get("--dataset", config.dataset))


def test_the_published_commands_are_written_out_and_are_the_presets() -> None:
    published = {(c.model, c.dataset): flags for flags in WRITTEN_OUT if "--tuning" in flags for c in [load(*flags.split())]}
    assert len(published) == 4
    for (model, dataset), flags in published.items():
        size = "gptoss20b" if "gpt-oss" in model else "qwen7b"
        preset = load("--preset", f"prototype-{dataset}-{size}")
        assert load("--preset", f"prototype-{dataset}-{size}", *flags.split()) == preset


def test_the_first_judgment_of_the_other_pipeline_is_written_out() -> None:
    pipeline = [load(*flags.split()) for flags in WRITTEN_OUT if "0.5B" in flags]
    assert [config.tuning for config in pipeline] == ["lora", "full", "lora", "full"]
    assert {(config.data.num_train, config.data.num_validation, config.train.epochs) for config in pipeline} == {
        (10000, 1000, 1)
    }
    assert [config.engine.batch_size for config in pipeline] == [512, 256, 512, 512]
    assert {config.train.batch_size for config in pipeline} == {32}
