"""A model that cannot be trained as the settings say is refused before anything heavy loads, where it is to be trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from know_thyself.config import RunConfig
from know_thyself.errors import ConfigError
from know_thyself.models import packaged_world
from know_thyself.pipelines.inputs import check_inputs


@pytest.fixture
def quantised(tmp_path: Path) -> str:
    """The world's model, as one whose settings say that it is quantised."""
    for file in (packaged_world() / "model").iterdir():
        (tmp_path / file.name).symlink_to(file)
    settings = json.loads((tmp_path / "config.json").read_bytes())
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").write_text(json.dumps({**settings, "quantization_config": {"quant_method": "mxfp4"}}))
    return str(tmp_path)


def config(**changes: object) -> RunConfig:
    return RunConfig.model_validate({"data": {"num_train": 2000}, **changes})


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_quantised_model_can_be_measured_but_not_trained(tuning: str, quantised: str) -> None:
    with pytest.raises(ConfigError, match="holds quantised weights") as caught:
        check_inputs(config(model=quantised, tuning=tuning))
    assert str(caught.value).startswith(f"model {quantised} ")
    assert len(str(caught.value).splitlines()) == 1
    assert check_inputs(config(model=quantised, tuning=tuning, train={"epochs": 0})).base.name == quantised
    assert check_inputs(config(model=quantised, tuning=tuning), trains=False).base.name == quantised


def test_only_an_adapter_needs_layers_of_these_names() -> None:
    targets = {"targets": ("q_proj", "c_attn")}
    with pytest.raises(
        ConfigError, match=r"has no linear layer c_attn: choose --train\.lora\.targets from down_proj, gate_proj"
    ):
        check_inputs(config(train={"lora": targets}))
    check_inputs(config(tuning="full", train={"lora": targets}))
