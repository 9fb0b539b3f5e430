"""The Ray session that all stages of a job run in, and how quiet it is."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import ray
from joblib import cpu_count

from know_thyself.compute.environment import SETTINGS, prepare_environment
from know_thyself.compute.submission import variables_submitted
from know_thyself.errors import ConfigError, first_line
from know_thyself.experiment.growing import keep
from know_thyself.experiment.place import store_of
from know_thyself.experiment.store import ENVIRONMENT
from know_thyself.progress import STREAMS, streams_to

LOCAL, SPARE_CPUS = "local", 2
CHATTER = ("ray", "ray.data", "ray.train", "ray.tune", "ray.serve")


@contextmanager
def ray_session(address: str | None, logs: Path) -> Iterator[None]:
    """A Ray session on the cluster at `address` (or `RAY_ADDRESS`), else on a cluster of this machine's own.

    What Ray logs, and what anything prints to standard output or error, goes to `logs`/driver.log (`progress.own_console`
    stays on the terminal); signals stay as the caller set them. Raises `ConfigError` when the cluster cannot be reached.
    """
    cluster = cluster_of(address)
    prepare_environment()
    with _chatter_to(logs / "driver.log"), _signals_kept():
        _connect(cluster, SETTINGS if store_of(logs) is None else (*SETTINGS, *ENVIRONMENT))
        try:
            yield
        finally:
            ray.shutdown()


def cluster_of(address: str | None) -> str:
    """The cluster that `address` (or `RAY_ADDRESS`) means: `LOCAL` for one of this machine's own."""
    return address or os.environ.get("RAY_ADDRESS") or LOCAL


def _connect(cluster: str, told: Iterable[str]) -> None:
    """Connect to `cluster`, whose workers are `told` these variables of the environment."""
    is_local = cluster == LOCAL
    # Workers of a local cluster inherit this environment; asked for, it would cost every one of them a start of its own.
    runtime_env = None if is_local else {"env_vars": told_to_workers(told)}
    try:
        with _signals_kept():
            ray.init(
                address=cluster,
                log_to_driver=False,
                configure_logging=False,
                runtime_env=runtime_env,
                # Beside the engines, a resumed stage needs a CPU for the filter of what is done, and one to read and write.
                num_cpus=cpu_count() + SPARE_CPUS if is_local else None,
                include_dashboard=False if is_local else None,
            )
    except Exception as error:  # Ray raises a bare one when its own node is late
        remedy = "try again when the machine is less busy" if is_local else "start one, or leave --address out for a local one"
        raise ConfigError(f"no Ray cluster at {cluster} ({first_line(error)}): {remedy}") from error


def told_to_workers(names: Iterable[str]) -> dict[str, str]:
    """Those variables of the environment that workers have from nobody else."""
    return {name: os.environ[name] for name in names if name in os.environ and name not in variables_submitted()}


@contextmanager
def _signals_kept() -> Iterator[None]:
    """Undo what the context does to the handlers of SIGINT and SIGTERM: Ray installs its own and leaves them."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _chatter_to(log: Path) -> Iterator[None]:
    """Send to `log` what Ray logs in this process, and what anything in it writes to standard output and error."""
    keep(log)
    handler = logging.FileHandler(log)
    handler.setLevel(logging.INFO)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    with closing(handler), streams_to(log), _into(handler):
        yield


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
    """Send everything this worker process prints, also from native code, to the end of `log`, from now on."""
    log.parent.mkdir(parents=True, exist_ok=True)
    keep(log)
    with log.open("a") as file:
        for stream in STREAMS:
            os.dup2(file.fileno(), stream)


@contextmanager
def interruptible() -> Iterator[None]:
    """Let Ctrl-C inside the context stop the caller, though Ray Train answers it by leaving the process."""
    try:
        with _signals_kept():
            yield
    except SystemExit as stop:
        raise KeyboardInterrupt from stop
