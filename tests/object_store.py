"""An object store on this machine: moto's server, which speaks S3, with one bucket."""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from moto.server import ThreadedMotoServer

HOST, BUCKET = "127.0.0.1", "bucket"


@dataclass(frozen=True)
class Bucket:
    """A running store: the URL of its bucket, and the environment in which it is found, but for the folder of copies."""

    url: str
    endpoint: str

    def environment(self, scratch: Path) -> dict[str, str]:
        """What a process needs that keeps its copies in `scratch`."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "KT_SCRATCH": str(scratch),
        }


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A store with an empty bucket, for as long as the context lasts."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=HOST, port=0, verbose=False)
    server.start()
    try:
        _, port = server.get_host_and_port()
        endpoint = f"http://{HOST}:{port}"
        request = urllib.request.Request(f"{endpoint}/{BUCKET}", method="PUT")
        with urllib.request.urlopen(request, timeout=30):
            yield Bucket(f"s3://{BUCKET}", endpoint)
    finally:
        server.stop()
