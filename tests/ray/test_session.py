"""A cluster too small for its workers is refused in one line."""

from __future__ import annotations

import pytest
import ray

from know_thyself.compute.session import check_workers
from know_thyself.config import TrainConfig
from know_thyself.errors import ConfigError


def test_each_training_worker_needs_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "cluster_resources", lambda: {"CPU": 4.0, "GPU": 2.0})
    check_workers(TrainConfig(workers=2), "cuda")
    check_workers(TrainConfig(workers="4..8"), "cpu")
    with pytest.raises(ConfigError, match=r"train.workers=3 needs a GPU each, but the cluster has 2: lower train.workers"):
        check_workers(TrainConfig(workers=3, batch_size=3), "cuda")
    with pytest.raises(ConfigError, match=r"train.workers=5..8 needs a CPU each, but the cluster has 4"):
        check_workers(TrainConfig(workers="5..8"), "cpu")
