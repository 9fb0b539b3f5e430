"""Where a language model's files are, and which weights exactly they hold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from know_thyself.artefacts import code_fault, weights_fault
from know_thyself.config import WORLD
from know_thyself.digests import digest_files
from know_thyself.errors import ConfigError, first_line
from know_thyself.experiment.place import is_stored, locate, pull
from know_thyself.types import ModelRef

WEIGHTS = "*.safetensors"
TOKENIZER = ("tokenizer*", "chat_template*", "special_tokens_map.json", "added_tokens.json", "vocab.json", "merges.txt")
IDENTITY = (WEIGHTS, "*.safetensors.index.json", "config.json", "generation_config.json", *TOKENIZER, "*.py")
"""Files that decide how a model answers, so that a change of any makes it another model."""
SUBFOLDERS = "*/*"
"""Hub repositories keep second copies of the weights there."""
IN_CACHE = re.compile(r".*/models--([^/]+)--([^/]+)/snapshots/([0-9a-f]{40})")
"""A folder of the hub's cache: owner, name and commit."""


def packaged_world() -> Path:
    """The folder of the packaged world. Raises `ConfigError` when this copy of the library was built without one."""
    folder = Path(str(resources.files("know_thyself") / "world" / "packaged"))
    if not (folder / "model" / "config.json").is_file():
        raise ConfigError("this copy of know-thyself has no packaged world: build one with know-thyself world build --out DIR")
    return folder


def resolve_model(name: str, revision: str | None, trust_remote_code: bool = False) -> ModelRef:
    """The model that `name` means (`world`, a folder, a hub id) as a folder on this machine, with its digest.

    Raises `ConfigError` when it is not there, cannot be fetched, has no whole safetensors weights, or wants to run code of its
    own that is not trusted.
    """
    folder = _folder(name, revision, IDENTITY)
    is_model = (folder / "config.json").is_file()
    if is_model and (fault := model_fault(folder, trust_remote_code)):
        raise ConfigError(f"model {folder} {fault}")
    if not is_model or not any(folder.glob(WEIGHTS)):
        raise ConfigError(f"model {folder} holds no config.json with {WEIGHTS} beside it: give a Hugging Face model folder")
    return ModelRef(name=str(folder), revision=revision, digest=digest_files(folder, IDENTITY))


def model_fault(folder: Path, trust_remote_code: bool) -> str | None:
    """Why the model in `folder` must not or cannot be loaded, as far as its settings and the headers of its weights tell."""
    one = "model.safetensors"
    return (None if trust_remote_code else code_fault(folder)) or weights_fault(folder, one, f"{one}.index.json")


def bring(folder: Path) -> Path:
    """`folder`, which holds a model, once it is there on this machine as it was where its name was resolved.

    What is missing comes from the object store that it lies in, or from the hub where it lies in the hub's cache, at the same
    commit. Raises `StoreError`, and `ConfigError` when the hub does not have it.
    """
    if hub := _in_cache(str(folder)):
        return _fetched(*hub, IDENTITY, folder.parents[2])
    return pull(folder)


def tokenizer_folder(name: str, revision: str | None) -> Path:
    """A folder with the tokenizer of the model that `name` means, weights or not: of a hub model nothing else is fetched.

    Raises `ConfigError` when it is not there or cannot be fetched.
    """
    return _folder(name, revision, ("config.json", *TOKENIZER, "*.py"))


def _folder(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    path = pull(locate(name)) if is_stored(name) else Path(name)
    if (hub := _in_cache(name)) and not path.is_dir():  # of another machine
        return _fetched(*hub, patterns)
    if name.startswith("~/"):
        path = path.expanduser()
    if name == WORLD or path.is_dir():
        if revision is not None:
            raise ConfigError(f"revision={revision!r} is for models of the hub, and {name!r} is a folder: leave it out")
        return packaged_world() / "model" if name == WORLD else path.absolute()
    if path.is_absolute() or name.startswith((".", "~")) or name.count("/") != 1:
        raise ConfigError(f"model {name!r} is neither a folder nor a hub id (owner/name): check its spelling")
    return _fetched(name, revision, patterns)


def _in_cache(folder: str) -> tuple[str, str] | None:
    """The hub id and the commit of what a `folder` of the hub's cache holds; None for any other."""
    found = IN_CACHE.fullmatch(folder)
    return (f"{found[1]}/{found[2]}", found[3]) if found else None


def _fetched(name: str, revision: str | None, patterns: Sequence[str], cache: Path | None = None) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    some = list(patterns)
    try:
        found = snapshot_download(name, revision=revision, cache_dir=cache, allow_patterns=some, ignore_patterns=SUBFOLDERS)
        return Path(found)
    except (OSError, HFValidationError) as error:
        reason = first_line(error)
        raise ConfigError(f"model {name!r} is no folder here and cannot be fetched from the hub ({reason})") from error


def tokenizer_files(model: Path) -> dict[str, Path]:
    """The files of the folder `model` that make its tokenizer and chat template, by name."""
    return {file.name: file for pattern in TOKENIZER for file in model.glob(pattern) if file.is_file()}
