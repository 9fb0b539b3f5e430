"""The judge folder: a trained judge with all that its verdicts are bound to.

    judge/
      judge.json     identity: base digest, prompts, prefill, encoding, verdict words and tokens, event, decoding, calibration,
                     longest prompt
      adapter/       the PEFT adapter of a LoRA judge
      model/         the weights of a fully fine-tuned judge, which is its own answerer
      tokenizer      files of the base

Neither `adapter` nor `model` is there when the untrained model judges best. `judge.json` is written last and holds the SHA-256
of every other file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from know_thyself.artefacts import adapter_fault, weights_fault
from know_thyself.digests import digest_file, digest_json
from know_thyself.errors import JudgeError
from know_thyself.evaluation.calibration import Calibration
from know_thyself.evaluation.drift import Reference
from know_thyself.experiment.place import address, here, pull, push_instead
from know_thyself.experiment.writing import replace_folder, restore_folder, storing, sync_file, write_whole
from know_thyself.models import tokenizer_files
from know_thyself.prompts import PROMPT_VERSION
from know_thyself.types import LabelMode, ModelRef, PromptStyle
from know_thyself.wire import Reliability

CARD, ADAPTER, MODEL = "judge.json", "adapter", "model"
KEPT = {".json", ".safetensors", ".jinja", ".txt", ".model"}


IDENTITY = {
    "base_digest",
    "prompt_version",
    "prompt_style",
    "label_mode",
    "verdict_tokens",
    "prefill",
    "encoding",
    "event",
    "decoding",
    "max_model_len",
    "calibration",
    "files",
}
"""The fields of a card that decide what the judge says and what it means."""


class JudgeCard(BaseModel):
    """What `judge.json` says. `encoding` is the digest of what makes tokens of a chat: template, `prefill`, tokenizer.

    `thresholds` are those of summary.json: from where on questions pass, and what was promised of them. `max_model_len` is the
    longest prompt of its run, answer included: contexts are cut to it. Cards older than the field mean the default of then.
    `reference` pictures the calibration set, for `know-thyself drift`; `reliability` is how the calibration did on validation.
    Cards older than these fields have none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    experiment: str
    epoch: int
    tuning: Literal["lora", "full"] = "lora"
    base: str
    base_digest: str
    prompt_version: str
    prompt_style: PromptStyle
    label_mode: LabelMode
    verdict_words: tuple[str, ...]
    verdict_tokens: tuple[int, ...]
    prefill: str
    encoding: str
    event: str
    label_rule: str
    decoding: dict[str, Any]
    max_model_len: int = 1024
    calibration: Calibration | None = None
    thresholds: tuple[dict[str, Any], ...] = ()
    reference: Reference | None = None
    reliability: Reliability | None = None
    files: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The identity of the judge: it changes with anything that makes another verdict or another p_correct.

        Where the base lies, which experiment it came from and what was promised of it are no part of it.
        """
        return digest_json(self.model_dump(mode="json", include=IDENTITY))

    @property
    def answerer(self) -> str:
        """The identity of the model that is judged: the judge's own weights where it is its own answerer, else its base."""
        own = {name: digest for name, digest in self.files.items() if name.startswith(f"{MODEL}/")}
        return digest_json(own) if own else self.base_digest


def write_judge(folder: Path, card: JudgeCard, trained: Path | None) -> JudgeCard:
    """Write the judge of `card` to `folder`, in place of any that is there; its base gives the tokenizer files.

    `trained` is the folder that holds the trained `adapter` or `model`, None for the untrained model.
    Raises `StoreError` when it cannot be written. Then, and after a kill at any point, `read_judge` finds the judge that was
    there, or the new one.
    """
    fresh = folder.with_name(f".{folder.name}.partial")
    with storing(folder):
        restore_folder(folder)
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(parents=True)
        for name, file in tokenizer_files(here(card.base)).items():
            shutil.copyfile(file, fresh / name)
        if trained is not None:
            part = MODEL if card.tuning == "full" else ADAPTER
            shutil.copytree(trained / part, fresh / part, ignore=_left_out)
        complete = card.model_copy(update={"files": _digests(fresh)})
        for name in complete.files:
            sync_file(fresh / name)
        write_whole(fresh / CARD, complete.model_dump_json(indent=2) + "\n")
        push_instead(folder, fresh)
        replace_folder(folder, fresh)
    return complete


def _left_out(folder: str, names: list[str]) -> list[str]:
    """What a judge does not take along of a trained folder: all that is neither weights, settings nor tokenizer."""
    return [name for name in names if Path(name).suffix not in KEPT]


def _digests(folder: Path) -> dict[str, str]:
    """Digests of the files in `folder` that a judge is loaded from, by their names relative to it."""
    weights = [file for part in (ADAPTER, MODEL) for file in (folder / part).rglob("*") if file.is_file()]
    files = tokenizer_files(folder) | {str(file.relative_to(folder)): file for file in weights}
    return {name: digest_file(files[name]) for name in sorted(files)}


def read_judge(folder: Path) -> JudgeCard:
    """The card of the judge in `folder`, its files and prompt version verified.

    Raises `JudgeError` when the folder is no judge, a file was changed, lost or added, its weights are none that an engine may
    load, or this version asks with other prompts.
    """
    try:
        restore_folder(pull(folder))
        card = JudgeCard.model_validate_json((folder / CARD).read_bytes())
    except OSError as error:
        raise JudgeError(
            f"{address(folder)} holds no {CARD} to read: give the judge folder of a finished experiment"
        ) from error
    except ValidationError as error:
        raise JudgeError(f"{folder / CARD} is damaged: train the judge again, or restore the file") from error
    differing = sorted(name for name, _ in card.files.items() ^ _digests(folder).items())
    if differing:
        raise JudgeError(f"{folder}: {differing[0]!r} is not as the judge was written: restore the folder, or train again")
    if fault := _fault(folder):
        raise JudgeError(f"judge {folder} {fault}")
    if card.prompt_version != PROMPT_VERSION:
        told = f"judge {folder} was trained on prompts {card.prompt_version}, this version asks {PROMPT_VERSION}"
        raise JudgeError(f"{told}: train it again")
    return card


def _fault(folder: Path) -> str | None:
    """Why the trained weights in the judge `folder` must not or cannot be loaded."""
    if (folder / ADAPTER).is_dir():
        return adapter_fault(folder / ADAPTER)
    if (folder / MODEL).is_dir():
        return weights_fault(folder / MODEL, "model.safetensors", "model.safetensors.index.json")
    return None


def check_base(card: JudgeCard, base: ModelRef) -> None:
    """Raise `JudgeError` unless `base` has the very weights and tokenizer that the judge was trained on."""
    if card.base_digest != base.digest:
        raise JudgeError(
            f"the judge belongs to a base of digest {card.base_digest[:12]}, but {base.name} has {base.digest[:12]}: "
            "use the base it was trained on, or train a judge for this one"
        )


def check_encoding(card: JudgeCard, encoding: str) -> None:
    """Raise `JudgeError` unless chats become tokens as they did when the judge was trained; `encoding` is how they do now."""
    if card.encoding != encoding:
        raise JudgeError(
            f"the judge was trained on a chat template of digest {card.encoding[:12]}, but its base is read through one of "
            f"{encoding[:12]}: use the template and the version it was trained with, or train it again"
        )


def check_vocabulary(card: JudgeCard, tokens: tuple[int, ...]) -> None:
    """Raise `JudgeError` unless the verdict words begin with the tokens that the judge was taught; `tokens` are those now."""
    if card.verdict_tokens != tokens:
        raise JudgeError(
            f"the judge speaks its verdicts in tokens {card.verdict_tokens}, but its base has {tokens} for these words: "
            "it belongs to another vocabulary; train it again"
        )


def check_beside(card: JudgeCard, other: JudgeCard) -> None:
    """Raise `JudgeError` unless the judge of `card` can work on the engine that was started for `other`."""
    for name in ("base_digest", "encoding", "decoding"):
        if getattr(card, name) != getattr(other, name):
            raise JudgeError(
                f"the judge has {name}={getattr(card, name)!r:.60}, and its engine serves {getattr(other, name)!r:.60}: "
                "start a service of its own for it, or train one for this base and these settings"
            )
    if card.max_model_len > other.max_model_len:
        raise JudgeError(
            f"the judge reads up to {card.max_model_len} tokens, and its engine was started for {other.max_model_len}: "
            "start the service anew with it"
        )


def check_answerer(card: JudgeCard, other: JudgeCard) -> None:
    """Raise `JudgeError` unless the judge of `card` judges the same model as that of `other`, the one that answers."""
    if card.answerer != other.answerer:
        raise JudgeError(
            f"the judge {card.experiment} is of another model than the one that answers here: "
            "start a service of its own for it, or serve without an answerer"
        )
