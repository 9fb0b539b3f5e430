"""The settings of an experiment: one typed, closed tree, layered as defaults → preset → environment → flags.

Flags are dotted and dashed (`--train.learning-rate 1e-3`); environment variables are `KT_TRAIN__LEARNING_RATE`. Unknown names
are errors everywhere.
"""

from __future__ import annotations

from know_thyself.config.loading import SCRATCH_VARIABLE, load_config, preset_path
from know_thyself.config.sections import (
    NAME_PATTERN,
    ChatConfig,
    ColumnsConfig,
    CostConfig,
    DataConfig,
    EngineConfig,
    LabelConfig,
    LoraConfig,
    SamplingConfig,
    StudyConfig,
    TrainConfig,
)
from know_thyself.config.tree import HUB_ID, LATEST, WORLD, RunConfig, is_url

__all__ = [
    "HUB_ID",
    "LATEST",
    "NAME_PATTERN",
    "SCRATCH_VARIABLE",
    "WORLD",
    "ChatConfig",
    "ColumnsConfig",
    "CostConfig",
    "DataConfig",
    "EngineConfig",
    "LabelConfig",
    "LoraConfig",
    "RunConfig",
    "SamplingConfig",
    "StudyConfig",
    "TrainConfig",
    "is_url",
    "load_config",
    "preset_path",
]
