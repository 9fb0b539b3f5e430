"""The Ray session that all stages of a job run in, and how quiet it is."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ray

from know_thyself.errors import ConfigError

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_TRAIN_V2_ENABLED": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "RAY_BACKEND_LOG_LEVEL": "fatal",
    "RAY_AUTH_MODE": "token",
}
"""Set unless the user did: no usage reports, no native chatter on the terminal, token authentication said aloud."""
CHATTER = ("ray", "ray.data", "ray.train", "ray.tune", "ray.serve")


@contextmanager
def ray_session(address: str | None, logs: Path) -> Iterator[None]:
    """A Ray session on the cluster at `address` (or `RAY_ADDRESS`), else on a cluster of this machine's own.

    Ray's own messages go to `logs`/driver.log. Raises `ConfigError` when the cluster cannot be reached.
    """
    cluster = address or os.environ.get("RAY_ADDRESS") or "local"
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    handler = logging.FileHandler(logs / "driver.log")
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    local = {"include_dashboard": False} if cluster == "local" else {}
    try:
        with _into(handler):
            ray.init(
                address=cluster,
                log_to_driver=False,
                logging_level=logging.WARNING,
                configure_logging=False,
                runtime_env={"env_vars": {name: os.environ[name] for name in QUIET}},
                **local,
            )
    except (ConnectionError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f"no Ray cluster at {cluster}: {reason}: start one, or leave --address out for a local one") from error
    try:
        with _into(handler):
            yield
    finally:
        ray.shutdown()
        handler.close()


@contextmanager
def _into(handler: logging.Handler) -> Iterator[None]:
    """Send what Ray logs in this process to `handler` alone, for as long as the context lasts."""
    before = {}
    for name in CHATTER:
        logger = logging.getLogger(name)
        before[name] = (logger.handlers, logger.propagate)
        logger.handlers, logger.propagate = ([handler] if name == "ray" else []), name != "ray"
    try:
        yield
    finally:
        for name, (handlers, propagate) in before.items():
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = handlers, propagate


def quiet_worker(log: Path) -> None:
    """Send everything this worker process prints, also from native code, to the end of `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def cluster_device(wanted: str) -> str:
    """`cpu` or `cuda`: what `wanted` says, or for `auto` what the cluster has."""
    gpus = ray.cluster_resources().get("GPU", 0)
    if wanted == "cuda" and gpus < 1:
        raise ConfigError("engine.device='cuda' but the cluster has no GPU: use --engine.device cpu, or add a GPU node")
    return ("cuda" if gpus >= 1 else "cpu") if wanted == "auto" else wanted
