"""What Ray and the libraries on it read from the environment, set before any of them is imported."""

from __future__ import annotations

import os

SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Token authentication said aloud, and no usage reports."""


def prepare_environment() -> None:
    """Put `SETTINGS` into the environment, but for what the user has set. Ray reads some of them only when it is imported."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
