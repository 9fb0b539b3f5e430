"""The judgment service on this machine, without Ray: `python -m serve --judge experiments/NAME/judge`."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from know_thyself.compute.environment import prepare_environment
from know_thyself.errors import ConfigError, KnowThyselfError, StoreError

INTERRUPTED = 130
GRACE = 30
"""Seconds that requests under way have left when the service is told to stop."""
KEEP_ALIVE = 75
"""Seconds that an idle connection stays open: longer than clients and proxies keep one, or they write into one just closed."""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The settings of the service from its flags."""
    parser = argparse.ArgumentParser(prog="python -m serve", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group()
    source.add_argument("--judge", help="folder of the judge, experiments/NAME/judge; that of the last experiment")
    source.add_argument("--registry", type=Path, help="folder of judges by name, whose file `prod` names the one that serves")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; any but a loopback one takes --keys")
    parser.add_argument("--port", type=int, default=8700, help="port to listen on")
    parser.add_argument("--keys", type=Path, help="TOML or JSON file with the digests and scopes of keys")
    parser.add_argument(
        "--policy", type=Path, help="TOML or JSON file of thresholds, limits and the gate; serve/policy.toml when not given"
    )
    parser.add_argument("--answer", action="store_true", help="let the model that is judged answer what passes the gate")
    parser.add_argument(
        "--journal", type=Path, help="SQLite file to keep feedback and scores in, without any text; made if new"
    )
    parser.add_argument("--secret", help="what signs ids: a file that holds it, or env:NAME; a new one when not given")
    parser.add_argument("--otel", action="store_true", help="trace requests by OpenTelemetry, to OTEL_EXPORTER_OTLP_ENDPOINT")
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace) -> None:
    """Check everything that can be wrong, start the judge, and serve until stopped. Raises `KnowThyselfError`."""
    from know_thyself.config import is_url
    from know_thyself.experiment.place import locate
    from serve.auth import check_host
    from serve.startup import Settings, app_of, backed, check_alone, read_plan, started

    settings = {name: told for name, told in vars(arguments).items() if name in Settings.model_fields}
    if arguments.judge is not None:
        settings["judge"] = locate(arguments.judge) if is_url(arguments.judge) else Path(arguments.judge)
    elif arguments.registry is None:
        settings["judge"] = last_judge(locate(os.environ.get("KT_EXPERIMENTS", "experiments")))
    plan = read_plan(Settings(**settings))
    check_host(arguments.host, plan.keys)
    check_alone(plan.policy)
    with taken(arguments.host, arguments.port) as address, ExitStack() as opened:
        backing = opened.enter_context(backed(plan))
        import uvicorn

        if arguments.secret is None:
            print("ids of judgments hold as long as this process runs: give --secret to make them last", file=sys.stderr)
        print("starting an engine, 20 to 40 seconds on a CPU", file=sys.stderr)
        judge = opened.enter_context(started(plan.folder, answers=arguments.answer))
        app = app_of(plan, judge, backing)
        server = uvicorn.Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE,
                timeout_graceful_shutdown=GRACE,
            )
        )
        print(f"judging on http://{arguments.host}:{arguments.port}", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[address])


def last_judge(root: Path) -> Path:
    """The folder of the judge of the last experiment under `root`. Raises `StoreError` when there is none."""
    from know_thyself.config import LATEST
    from know_thyself.experiment import find_experiment
    from know_thyself.experiment.place import pull

    folder = pull(find_experiment(root, LATEST).judge)
    if not folder.is_dir():
        raise StoreError(f"the last experiment, {folder.parent.name}, has no judge yet: run make demo first, or give --judge")
    return folder


def taken(host: str, port: int) -> socket.socket:
    """A socket bound to `host` and `port` that takes no calls yet. Raises `ConfigError` when it cannot be had."""
    with ExitStack() as unless_bound:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            address = unless_bound.enter_context(socket.socket(family))
            address.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            address.bind((host, port))
        except (OSError, OverflowError) as error:
            raise ConfigError(f"cannot listen on {host} port {port} ({error}): choose another --port or --host") from error
        unless_bound.pop_all()
        return address


def main() -> None:
    """Serve until stopped; exit 2 on bad input, 1 on failure, 130 when stopped before it served."""
    arguments = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _stop)
    prepare_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        run(arguments)
    except KnowThyselfError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
