"""Model files from strangers: what would run code, or could not be loaded or taught, is told before anything loads it.

Only safetensors and JSON are read, and of weights only the header. Each function returns what is wrong in one line, or None.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from know_thyself.errors import first_line

SAFE, PICKLED = ".safetensors", {".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle"}
WITH_CODE = ("config.json", "tokenizer_config.json")
"""Settings that can name classes of the model's own (`auto_map`), which are code that comes with it."""
ADAPTER_CONFIG = "adapter_config.json"
NOT_PLAIN = (
    "use_dora",
    "modules_to_save",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
    "layer_replication",
    "alora_invocation_tokens",
    "use_qalora",
    "use_bdlora",
)
"""Settings of PEFT that, where they are set, make more of an adapter than two factors beside each linear layer."""
NOT_LINEAR = {"embed_tokens", "lm_head", "wte", "wpe", "experts", "router", "gate"}
"""Parts of the names of matrices that are no linear layers once loaded: the vocabulary, experts in one block, their routers."""
LARGEST_RANK = 512
"""What vLLM loads at most."""
PEFT_RANK = 8
"""What PEFT takes where its settings name no rank."""


def weights_fault(folder: Path, one: str, index: str) -> str | None:
    """Why the weights in `folder` cannot be loaded: `one` file, or the files that `index` lists."""
    pickled = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLED)
    if pickled and not ((folder / one).is_file() or (folder / index).is_file()):
        return f"has its weights in {pickled[0]}, a pickle, which can run code when it is loaded: convert them to {one}"
    faults = (_header_fault(path) for path in sorted(folder.glob(f"*{SAFE}")))
    return next((fault for fault in faults if fault), None)


def code_fault(folder: Path) -> str | None:
    """Which settings in `folder` ask for code that comes with the model, or cannot be read at all."""
    for name in WITH_CODE:
        settings = _settings(folder / name) if (folder / name).is_file() else {}
        if isinstance(settings, str):
            return settings
        if settings.get("auto_map"):
            return f"wants to run code of its own (auto_map in {name}): allow it with --trust-remote-code, or use another model"
    return None


def adapter_fault(folder: Path) -> str | None:
    """Why the adapter in `folder` is none that an engine can lay beside its base: plain LoRA, in safetensors."""
    settings = _settings(folder / ADAPTER_CONFIG)
    if isinstance(settings, str):
        return settings
    if (kind := settings.get("peft_type")) != "LORA":
        return f"has peft_type={kind!r} in {ADAPTER_CONFIG}, and engines load LORA alone: train a plain LoRA adapter"
    set_to = {name: settings[name] for name in NOT_PLAIN if settings.get(name)}
    if (bias := settings.get("bias")) not in (None, "none"):
        set_to["bias"] = bias
    for name, value in set_to.items():
        told = f"has {name}={value!r:.60} in {ADAPTER_CONFIG}, and engines load plain LoRA on linear layers alone"
        return f"{told}: train one without it"
    if _rank(settings) is None:
        return (
            f"has ranks in {ADAPTER_CONFIG} that are not 1 to {LARGEST_RANK}, all that engines load: train one of such a rank"
        )
    return weights_fault(folder, "adapter_model.safetensors", "adapter_model.safetensors.index.json")


def adapter_rank(folder: Path) -> int:
    """The largest rank that the adapter in `folder`, which is without fault, has in any layer."""
    rank = _rank(json.loads((folder / ADAPTER_CONFIG).read_bytes()))
    if rank is None:
        raise ValueError(f"{folder} has a fault: see adapter_fault")
    return rank


def learning_fault(folder: Path, targets: Sequence[str]) -> str | None:
    """Why the model in `folder` cannot learn: it is quantised, or one of `targets` (as PEFT takes them) is no layer of it."""
    settings = _settings(folder / "config.json")
    if isinstance(settings, str):
        return settings
    if quantised := settings.get("quantization_config"):
        return (
            f"holds quantised weights (quantization_config={quantised!r:.60} in config.json), which cannot be trained: "
            "give an unquantised (bf16) copy of it, or only measure it with --train.epochs 0"
        )
    layers = set(_linear_layers(folder))
    unknown = [target for target in targets if not any(f".{layer}".endswith(f".{target}") for layer in layers)]
    if not unknown:
        return None
    kinds = ", ".join(sorted({layer.rpartition(".")[2] for layer in layers}))
    return (
        f"has no linear layer {' and no '.join(unknown)}: choose --train.lora.targets from {kinds or 'those of another model'}"
    )


def _linear_layers(folder: Path) -> Iterator[str]:
    """The linear layers of the model in `folder` that an adapter can be laid beside, by the headers of its weights."""
    for path in sorted(folder.glob(f"*{SAFE}")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118  # no mapping, though it has keys
                layer, _, kind = name.rpartition(".")
                is_matrix = kind == "weight" and len(file.get_slice(name).get_shape()) == 2
                if is_matrix and not NOT_LINEAR.intersection(layer.split(".")):
                    yield layer


def _rank(settings: dict[str, Any]) -> int | None:
    pattern = settings.get("rank_pattern") or {}
    ranks = [settings.get("r", PEFT_RANK), *(pattern.values() if isinstance(pattern, dict) else [None])]
    return max(ranks) if all(isinstance(rank, int) and 1 <= rank <= LARGEST_RANK for rank in ranks) else None


def _header_fault(path: Path) -> str | None:
    """Why `path` is no whole safetensors file, by its header, which tells the place of every tensor."""
    try:
        with safe_open(path, framework="numpy"):
            return None
    except (SafetensorError, OSError) as error:
        return f"has a damaged {path.name} ({first_line(error)}): fetch or write it again"


def _settings(path: Path) -> dict[str, Any] | str:
    """The object in `path`, or why there is none."""
    try:
        settings = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        return f"has no {path.name} that can be read ({first_line(error)}): fetch or write it again"
    return settings if isinstance(settings, dict) else f"has a {path.name} that is no JSON object: fetch or write it again"
