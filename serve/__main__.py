"""The judgment service on this machine, without Ray: `python -m serve --judge experiments/NAME/judge`."""

from __future__ import annotations

import argparse
import logging
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType

from know_thyself.compute.environment import prepare_environment
from know_thyself.errors import ConfigError, KnowThyselfError

INTERRUPTED = 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The settings of the service from its flags."""
    parser = argparse.ArgumentParser(prog="python -m serve", description=__doc__, allow_abbrev=False)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--judge", type=Path, help="folder of the judge: experiments/NAME/judge")
    source.add_argument("--registry", type=Path, help="folder of judges by name, whose file `prod` names the one that serves")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on; any but a loopback one takes --keys")
    parser.add_argument("--port", type=int, default=8700, help="port to listen on")
    parser.add_argument("--keys", type=Path, help="TOML or JSON file with the digests and scopes of keys")
    parser.add_argument("--policy", type=Path, help="TOML or JSON file of thresholds; serve/policy.toml when not given")
    parser.add_argument("--otel", action="store_true", help="trace requests by OpenTelemetry, to OTEL_EXPORTER_OTLP_ENDPOINT")
    return parser.parse_args(arguments)


def run(settings: argparse.Namespace) -> None:
    """Check everything that can be wrong, start the judge, and serve until stopped. Raises `KnowThyselfError`."""
    from serve.api import check_alone, create_app
    from serve.auth import check_host
    from serve.service import Others
    from serve.startup import Sources, read_plan, started

    sources = Sources(judge=settings.judge, registry=settings.registry, keys=settings.keys, policy=settings.policy)
    plan = read_plan(sources)
    check_host(settings.host, plan.keys)
    check_alone(plan.policy)
    with taken(settings.host, settings.port) as address, ExitStack() as opened:
        import uvicorn

        print("starting an engine, 20 to 40 seconds on a CPU", file=sys.stderr)
        judge = opened.enter_context(started(plan.folder))
        app = create_app(judge, plan.policy, plan.keys, others=Others(successors=plan.successors(judge)))
        if settings.otel:
            from serve.tracing import Traced, exporting

            app.add_middleware(Traced, provider=exporting())
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        print(f"judging on http://{settings.host}:{settings.port}", file=sys.stderr)
        with suppress(KeyboardInterrupt):
            server.run(sockets=[address])


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
    settings = parse(sys.argv[1:])
    signal.signal(signal.SIGTERM, _stop)
    prepare_environment()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        run(settings)
    except KnowThyselfError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
