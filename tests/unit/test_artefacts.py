"""Hostile artefacts: refused before anything loads them, in one line, and nothing of theirs is run."""

from __future__ import annotations

import json
import pickle
import struct
from pathlib import Path
from typing import Any

import pytest

from know_thyself.artefacts import ADAPTER_CONFIG, adapter_fault, adapter_rank, code_fault, learning_fault, weights_fault
from know_thyself.errors import ConfigError
from know_thyself.models import resolve_model

ONE, INDEX = "model.safetensors", "model.safetensors.index.json"
PLAIN = {"peft_type": "LORA", "r": 8, "bias": "none", "use_dora": False, "modules_to_save": None}
WHOLE = {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}


class Bomb:
    """Unpickled, it leaves a file behind."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def packed(header: object, data: bytes = b"") -> bytes:
    """A safetensors file with `header` (bytes as they are, anything else as JSON) over `data`."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / ONE).write_bytes(packed(WHOLE, bytes(8)))
    return folder


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / ADAPTER_CONFIG).write_text(json.dumps(PLAIN))
    (folder / "adapter_model.safetensors").write_bytes(packed(WHOLE, bytes(8)))
    return folder


def test_sound_artefacts_have_no_fault(model: Path, adapter: Path) -> None:
    assert (weights_fault(model, ONE, INDEX), code_fault(model), adapter_fault(adapter)) == (None, None, None)
    assert resolve_model(str(model), None).name == str(model)


HEADERS = {
    "empty": b"",
    "cut inside the length": b"\x01\x00",
    "cut inside the header": packed(WHOLE, bytes(8))[:30],
    "cut inside the data": packed(WHOLE, bytes(4)),
    "length beyond the file": struct.pack("<Q", 10_000) + b"{}",
    "length beyond any memory": struct.pack("<Q", 2**63) + b"{}",
    "not JSON": packed(b"(lambda: 0)()"),
    "not UTF-8": packed(b'{"\xff": 1}'),
    "a list": packed([WHOLE]),
    "more data than told": packed(WHOLE, bytes(16)),
    "a tensor larger than its place": packed({"w": {**WHOLE["w"], "shape": [3]}}, bytes(8)),
    "a tensor before the data": packed({"w": {**WHOLE["w"], "data_offsets": [-8, 0]}}, bytes(8)),
    "two tensors in one place": packed({"v": WHOLE["w"], "w": WHOLE["w"]}, bytes(8)),
    "a pickle under another name": pickle.dumps({"w": [0.0, 1.0]}),
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS)
def test_a_bad_safetensors_header_is_refused(content: bytes, model: Path, adapter: Path) -> None:
    (model / ONE).write_bytes(content)
    (adapter / "adapter_model.safetensors").write_bytes(content)
    with pytest.raises(ConfigError, match=r"has a damaged model\.safetensors \(.+\): fetch or write it again") as caught:
        resolve_model(str(model), None)
    assert len(str(caught.value).splitlines()) == 1
    assert "has a damaged adapter_model.safetensors" in str(adapter_fault(adapter))


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth", ".ckpt", ".pkl"])
def test_pickled_weights_alone_are_refused_and_never_loaded(suffix: str, model: Path, adapter: Path, tmp_path: Path) -> None:
    bomb = pickle.dumps(Bomb(tmp_path / "exploded"))
    for folder, name in ((model, "pytorch_model"), (adapter, "adapter_model")):
        for weights in folder.glob("*.safetensors"):
            weights.unlink()
        (folder / f"{name}{suffix}").write_bytes(bomb)
    with pytest.raises(ConfigError, match=rf"has its weights in pytorch_model\{suffix}, a pickle, .* convert them to"):
        resolve_model(str(model), None)
    assert f"adapter_model{suffix}, a pickle" in str(adapter_fault(adapter))
    assert not (tmp_path / "exploded").exists()


def test_safetensors_that_no_loader_looks_for_do_not_hide_a_pickle(model: Path) -> None:
    (model / ONE).rename(model / "other.safetensors")
    (model / "pytorch_model.bin").write_bytes(b"")
    assert "a pickle" in str(weights_fault(model, ONE, INDEX))


def test_a_pickle_beside_safe_weights_is_left_alone(model: Path) -> None:
    (model / "pytorch_model.bin").write_bytes(b"")
    assert weights_fault(model, ONE, INDEX) is None


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json"])
def test_code_that_comes_with_a_model_is_refused_unless_it_is_trusted(name: str, model: Path, tmp_path: Path) -> None:
    (model / name).write_text(json.dumps({"auto_map": {"AutoModelForCausalLM": "modeling_own.Own"}}))
    (model / "modeling_own.py").write_text(f"open({str(tmp_path / 'exploded')!r}, 'w')")
    with pytest.raises(
        ConfigError, match=rf"code of its own \(auto_map in {name}\): allow it with --trust-remote-code"
    ) as caught:
        resolve_model(str(model), None)
    assert len(str(caught.value).splitlines()) == 1
    assert resolve_model(str(model), None, trust_remote_code=True).name == str(model)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("content", [b"", b"no json", b"[]", b"\xff", b"[" * 100_000])
def test_settings_that_cannot_be_read_are_refused(content: bytes, model: Path, adapter: Path) -> None:
    (model / "config.json").write_bytes(content)
    (adapter / ADAPTER_CONFIG).write_bytes(content)
    assert "config.json" in str(code_fault(model))
    assert ADAPTER_CONFIG in str(adapter_fault(adapter))


@pytest.mark.parametrize(
    "ranks", [{"r": 513}, {"r": 0}, {"r": "8"}, {"r": None}, {"rank_pattern": {"q_proj": 1024}}, {"rank_pattern": [9]}]
)
def test_an_adapter_of_a_rank_that_no_engine_loads_is_refused(ranks: dict[str, Any], adapter: Path) -> None:
    (adapter / ADAPTER_CONFIG).write_text(json.dumps({**PLAIN, **ranks}))
    assert "has ranks in adapter_config.json that are not 1 to 512" in str(adapter_fault(adapter))


def test_an_adapter_needs_the_room_of_its_largest_rank(adapter: Path) -> None:
    assert adapter_rank(adapter) == 8
    (adapter / ADAPTER_CONFIG).write_text(json.dumps({**PLAIN, "rank_pattern": {"layers.0.q_proj": 64}}))
    assert (adapter_fault(adapter), adapter_rank(adapter)) == (None, 64)


NOT_PLAIN = {
    "DoRA": {"use_dora": True},
    "modules saved whole": {"modules_to_save": ["lm_head"]},
    "biases": {"bias": "lora_only"},
    "all biases": {"bias": "all"},
    "LoRA with a bias": {"lora_bias": True},
    "tokens trained": {"trainable_token_indices": [1, 2]},
    "experts": {"target_parameters": ["mlp.experts.down_proj"]},
    "another method": {"peft_type": "IA3"},
    "no method": {"peft_type": None},
    "an unheard-of method": {"peft_type": "__import__('os')"},
}


@pytest.mark.parametrize("settings", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_an_adapter_that_is_not_plain_lora_is_refused(settings: dict[str, Any], adapter: Path) -> None:
    (adapter / ADAPTER_CONFIG).write_text(json.dumps(PLAIN | settings))
    fault = str(adapter_fault(adapter))
    assert fault.startswith(f"has {next(iter(settings))}=")
    assert "train" in fault
    assert len(fault.splitlines()) == 1


def with_matrices(model: Path, *names: str) -> Path:
    """`model` with weights of these names, each a matrix."""
    places = {name: {"dtype": "U8", "shape": [1, 1], "data_offsets": [i, i + 1]} for i, name in enumerate(names)}
    (model / ONE).write_bytes(packed(places, bytes(len(names))))
    return model


GPT_OSS = (
    "model.embed_tokens.weight",
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.0.self_attn.q_proj.bias",
    "model.layers.0.self_attn.o_proj.weight",
    "model.layers.0.mlp.router.weight",
    "model.layers.0.mlp.experts.0.down_proj.weight",
    "model.layers.0.mlp.experts.gate_up_proj",
    "lm_head.weight",
)


@pytest.mark.parametrize("targets", [(), ("q_proj",), ("self_attn.o_proj", "q_proj")])
def test_layers_that_are_there_can_learn(targets: tuple[str, ...], model: Path) -> None:
    assert learning_fault(with_matrices(model, *GPT_OSS), targets) is None


@pytest.mark.parametrize(
    "missing", ["c_attn", "proj", "q_proj.weight", "mlp.o_proj", "bias", "router", "down_proj", "gate_up_proj", "all-linear"]
)
def test_a_layer_that_is_not_there_is_told_with_those_that_are(missing: str, model: Path) -> None:
    told = f"has no linear layer {missing}: choose --train.lora.targets from o_proj, q_proj"
    assert learning_fault(with_matrices(model, *GPT_OSS), ("q_proj", missing)) == told


def test_a_model_without_any_layer_to_adapt_says_so(model: Path) -> None:
    told = "has no linear layer q_proj and no o_proj: choose --train.lora.targets from those of another model"
    assert learning_fault(model, ("q_proj", "o_proj")) == told


def test_quantised_weights_cannot_learn_and_the_remedy_is_told(model: Path) -> None:
    (model / "config.json").write_text(json.dumps({"quantization_config": {"quant_method": "mxfp4"}}))
    fault = learning_fault(model, ())
    assert fault is not None
    assert "quant_method': 'mxfp4'" in fault
    assert "give an unquantised (bf16) copy of it" in fault
    assert len(fault.splitlines()) == 1


def test_settings_that_cannot_be_read_are_a_fault_of_one_that_is_to_learn(model: Path) -> None:
    (model / "config.json").write_text("{")
    assert "has no config.json that can be read" in (learning_fault(model, ()) or "")
