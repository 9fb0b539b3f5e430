"""What the doctor runs on a cluster: a job, sent as the text of this file, that looks at every node.

It needs nothing of know-thyself there, so that a cluster that lacks it can be told so. Told is one line of JSON.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import uuid
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

HEAD = "head"
"""The file that the driver of the job writes, on the head."""
MARK = "know-thyself doctor: "
"""What the one line begins with."""
PATIENCE = 60
"""Seconds that a node may take to answer."""
STORE_PATIENCE = 5.0
"""Seconds that an object store may take to answer a node."""
FAULTS = (OSError, ValueError, ImportError)
"""What a place that cannot be used raises; `FileNotFoundError`, an `OSError`, where only the file is not there."""


def installed(names: list[str]) -> dict[str, str]:
    """The versions of those of `names` that this Python has."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def is_free(port: int) -> bool:
    """Whether a program of this machine could listen on `port` of loopback."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def drivers() -> list[str]:
    """The version of NVIDIA's driver for each GPU that this node can see, whatever it declares to Ray."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE / 2, check=True).stdout.split()
    except (OSError, subprocess.SubprocessError):
        return []


class Place(Protocol):
    """Where files lie that every node should see."""

    def write(self, name: str) -> None:
        """Make a file of this name."""

    def read(self, name: str) -> None:
        """Read it."""

    def clear(self) -> None:
        """Remove all of them."""


class Folder:
    """A folder, made by the first who writes there."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def write(self, name: str) -> None:
        """See `Place`. Raises `FAULTS`."""
        self._path.mkdir(parents=True, exist_ok=True)
        (self._path / name).write_text("")

    def read(self, name: str) -> None:
        """See `Place`. Raises `FAULTS`."""
        (self._path / name).read_text()

    def clear(self) -> None:
        """See `Place`."""
        shutil.rmtree(self._path, ignore_errors=True)


class Objects:
    """What the names of objects in a store of S3 or Google Cloud begin with."""

    def __init__(self, url: str) -> None:
        self._scheme, _, self._prefix = url.partition("://")

    def _store(self) -> Any:
        """Its file system, found as jobs find it."""
        from pyarrow import fs

        if self._scheme == "gs":
            return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=STORE_PATIENCE))
        protocol, _, host = (os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "").rpartition(
            "://"
        )
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        return fs.S3FileSystem(
            region=region if host else fs.resolve_s3_region(self._prefix.partition("/")[0]),
            endpoint_override=host or None,
            scheme=protocol or "https",
            connect_timeout=STORE_PATIENCE,
            retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=2),
        )

    def write(self, name: str) -> None:
        """See `Place`. Raises `FAULTS`."""
        with self._store().open_output_stream(f"{self._prefix}/{name}") as stream:
            stream.write(b"here")

    def read(self, name: str) -> None:
        """See `Place`. Raises `FAULTS`."""
        with self._store().open_input_stream(f"{self._prefix}/{name}") as stream:
            stream.read()

    def clear(self) -> None:
        """See `Place`. Raises `FAULTS`."""
        self._store().delete_dir(self._prefix)


def place_of(root: str) -> Place:
    """A place of its own below `root`."""
    own = f"{root.rstrip('/')}/.doctor-{uuid.uuid4().hex}"
    return Objects(own) if "://" in root else Folder(own)


def fault_of(error: Exception) -> str:
    """What is wrong, in a line."""
    return getattr(error, "strerror", None) or (str(error).splitlines() or [type(error).__name__])[0]


def look(place: Place, node: str, packages: list[str], ports: list[int]) -> dict[str, Any]:
    """What this node has and can do; it reads what the head wrote to `place`, and writes a file of its own name there."""
    taken = [port for port in ports if not is_free(port)]
    fault = ""
    try:
        place.read(HEAD)
        place.write(node)
    except FileNotFoundError:
        fault = "what the head writes is not there"
    except FAULTS as error:
        fault = fault_of(error)
    versions = {"packages": installed(packages), "python": platform.python_version(), "drivers": drivers()}
    return {**versions, "taken": taken, "storage": fault}


def seen_by_head(place: Place, node: str) -> str:
    """What is wrong with what `node` wrote, as the head sees it; empty where nothing is."""
    try:
        place.read(node)
    except FAULTS:
        return "what it writes is not there on the head"
    return ""


def main(asked: dict[str, Any]) -> None:
    """Look at every node that is alive, without taking a CPU of any, and print what was found."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    told_of = {name: os.environ[name] for name in asked["environment"] if name in os.environ}
    ray.init(log_to_driver=False, runtime_env={"env_vars": told_of} if told_of else None)
    place = place_of(asked["root"])
    told: dict[str, Any] = {"driver": ray.get_runtime_context().get_node_id(), "storage": "", "nodes": []}
    try:
        place.write(HEAD)
    except FAULTS as error:
        told["storage"] = fault_of(error)
    sent: list[tuple[dict[str, Any], Any]] = []
    for node in ray.nodes():
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            looking = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=pinned)
            sent.append((node, looking.remote(place, node["NodeID"], asked["packages"], asked["ports"])))
    for node, answer in sent:
        one: dict[str, Any] = {"id": node["NodeID"], "address": node["NodeManagerAddress"], "labels": node["Labels"]}
        one |= {"cpus": node["Resources"].get("CPU", 0), "gpus": node["Resources"].get("GPU", 0)}
        try:
            one |= ray.get(answer, timeout=PATIENCE)
            if not one["storage"]:
                one["storage"] = seen_by_head(place, one["id"])
        except ray.exceptions.RayError as error:
            one["error"] = type(error).__name__
        told["nodes"].append(one)
    try:
        place.clear()
    except FAULTS as error:
        told["storage"] = told["storage"] or f"what it wrote cannot be removed: {fault_of(error)}"
    print(MARK + json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
