"""What the doctor runs on a cluster: a job, sent as the text of this file, that looks at every node.

It needs nothing of know-thyself there, so that a cluster that lacks it can be told so. Told is one line of JSON.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import uuid
from datetime import timedelta
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

MARK = "know-thyself doctor: "
"""What the one line begins with."""
PATIENCE = 60
"""Seconds that a node may take to answer."""


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


def file_system(scheme: str, bucket: str) -> Any:
    """What a job that looks for `bucket` before it begins finds it through: see `know_thyself.experiment.store`."""
    from pyarrow import fs

    if scheme == "gs":
        return fs.GcsFileSystem(retry_time_limit=timedelta(seconds=5))
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    protocol, _, host = endpoint.rpartition("://")
    return fs.S3FileSystem(
        region=region if endpoint else fs.resolve_s3_region(bucket),
        endpoint_override=host or None,
        scheme=protocol or "https",
        connect_timeout=5.0,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
        allow_delayed_open=True,
    )


def opened(folder: str) -> tuple[Any, str]:
    """The file system of the URL `folder`, and the path that it has there."""
    scheme, _, key = folder.partition("://")
    path = PurePosixPath(key)
    return file_system(scheme, path.parts[0]), str(path)


def is_url(folder: str) -> bool:
    """Whether `folder` lies in an object store."""
    return "://" in folder


def reason(error: Exception, name: str) -> str:
    """The first line of `error`, without what differs between nodes: the `name` of the object, the number of the request."""
    line = next(iter(str(error).splitlines()), "") or type(error).__name__
    return re.sub(r" \(Request ID: [^)]*\)", "", line).replace(f"/{name}", "").rstrip(".")


def use(folder: str, name: str) -> str:
    """Write an object into the URL `folder`, list, read and delete it: why one of these failed, empty where none did."""
    try:
        from pyarrow.fs import FileSelector

        store, path = opened(folder)
        with store.open_output_stream(f"{path}/{name}") as stream:
            stream.write(name.encode())
        try:
            store.get_file_info(FileSelector(path))  # what jobs do as well, by a permission of its own
            with store.open_input_stream(f"{path}/{name}") as stream:
                is_same = stream.read() == name.encode()
        finally:
            store.delete_file(f"{path}/{name}")
    except (OSError, ValueError, ImportError) as error:
        return reason(error, name)
    return "" if is_same else "what it reads is not what it wrote"


def share(folder: str, name: str) -> str:
    """Read what the head wrote to `folder`, and write a file there: why one of these failed, empty where none did."""
    try:
        (Path(folder) / "head").read_text()
        (Path(folder) / name).write_text("")
    except FileNotFoundError:
        return "what the head writes is not there"
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def begin(folder: str) -> str:
    """Make `folder`, for the nodes to find what the head writes there: why that failed; a store has no need of it."""
    if is_url(folder):
        return ""
    try:
        Path(folder).mkdir(parents=True)
        (Path(folder) / "head").write_text("")
    except OSError as error:
        return error.strerror or type(error).__name__
    return ""


def clear(folder: str) -> str:
    """Remove `folder` with what nodes left there: why that failed in a store, which then may keep an object.

    Of the root, Arrow's file system of S3 keeps what stands for an empty folder, as it does in every experiment.
    """
    if not is_url(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return ""
    try:
        store, path = opened(folder)
        if store.get_file_info(path).type.name != "NotFound":
            store.delete_dir(path)
    except (OSError, ValueError, ImportError) as error:
        return f"cannot clear {folder} away: {reason(error, folder.rpartition('/')[2])}"
    return ""


def look(folder: str, node: str, packages: list[str], ports: list[int]) -> dict[str, Any]:
    """What this node has and can do; in `folder` it makes a file or an object of its own name."""
    taken = [port for port in ports if not is_free(port)]
    fault = use(folder, node) if is_url(folder) else share(folder, node)
    versions = {"packages": installed(packages), "python": platform.python_version(), "drivers": drivers()}
    return {**versions, "taken": taken, "storage": fault}


def send(node: dict[str, Any], folder: str, asked: dict[str, Any]) -> Any:
    """Have `node` looked at, without taking a CPU of it; the answer to wait for."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    looking = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=pinned)
    return looking.remote(folder, node["NodeID"], asked["packages"], asked["ports"])


def hear(node: dict[str, Any], answer: Any, folder: str) -> dict[str, Any]:
    """What is known of `node`, with its `answer` or the kind of error that came instead, after which it does no more."""
    import ray

    one: dict[str, Any] = {"id": node["NodeID"], "address": node["NodeManagerAddress"], "labels": node["Labels"]}
    one |= {"cpus": node["Resources"].get("CPU", 0), "gpus": node["Resources"].get("GPU", 0)}
    try:
        one |= ray.get(answer, timeout=PATIENCE)
    except ray.exceptions.RayError as error:
        ray.cancel(answer, force=True)
        return {**one, "error": type(error).__name__}
    if not one["storage"] and not is_url(folder) and not (Path(folder) / one["id"]).exists():
        one["storage"] = "what it writes is not there on the head"
    return one


def main(asked: dict[str, Any]) -> None:
    """Look at every node that is alive, and print what was found. Nodes are told where the store is as a job tells them."""
    import ray

    told_on = {name: os.environ[name] for name in asked["variables"] if name in os.environ}
    ray.init(log_to_driver=False, runtime_env={"env_vars": told_on} if told_on else None)
    folder = f"{asked['root'].rstrip('/')}/.doctor-{uuid.uuid4().hex}"
    told: dict[str, Any] = {"driver": ray.get_runtime_context().get_node_id(), "storage": begin(folder), "nodes": []}
    try:
        sent = [(node, send(node, folder, asked)) for node in ray.nodes() if node["Alive"]]
        told["nodes"] = [hear(node, answer, folder) for node, answer in sent]
    finally:
        told["storage"] = told["storage"] or clear(folder)
    print(MARK + json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
