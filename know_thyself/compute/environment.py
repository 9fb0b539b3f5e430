"""What Ray and the libraries on it read from the environment, set before any of them is imported."""

from __future__ import annotations

import os
import sys

SETTINGS = {
    "RAY_AUTH_MODE": "token",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S": "20",
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",
    "RAY_DATA_USE_DATASOURCE_V2": "0",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
"""Token authentication said aloud, no usage reports; Ray Data's first reader of Parquet, as the second starts actors for each
table, and when the node of one of them dies, so does the stage.

Training workers that no room is found for in 20 seconds are asked for anew, as many as there then is room for: their number may
come from a count of the nodes that is as old. Every half second Ray looks whether they have finished, instead of every two.
"""
READ_AT_IMPORT = "RAY_AUTH_MODE"
"""Set after Ray is imported, it would hold for the cluster that Ray starts but not for this process."""


def prepare_environment() -> None:
    """Put `SETTINGS` into the environment, but for what the user has set and for what would come too late."""
    for name, value in SETTINGS.items():
        if name != READ_AT_IMPORT or "ray" not in sys.modules:
            os.environ.setdefault(name, value)
