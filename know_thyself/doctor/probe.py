"""What the doctor runs on a cluster: a job, sent as the text of this file, that looks at every node.

It needs nothing of know-thyself there, so that a cluster that lacks it can be told so. Told is one line of JSON.
"""

from __future__ import annotations

import json
import platform
import shutil
import socket
import subprocess
import sys
import uuid
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
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


def look(folder: str, node: str, packages: list[str], ports: list[int]) -> dict[str, Any]:
    """What this node has and can do; it reads what the head wrote to `folder`, and writes a file of its own name there."""
    taken = [port for port in ports if not is_free(port)]
    fault = ""
    try:
        (Path(folder) / "head").read_text()
        (Path(folder) / node).write_text("")
    except FileNotFoundError:
        fault = "what the head writes is not there"
    except OSError as error:
        fault = error.strerror or type(error).__name__
    versions = {"packages": installed(packages), "python": platform.python_version(), "drivers": drivers()}
    return {**versions, "taken": taken, "storage": fault}


def main(asked: dict[str, Any]) -> None:
    """Look at every node that is alive, without taking a CPU of any, and print what was found."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray.init(log_to_driver=False)
    folder = Path(asked["root"]) / f".doctor-{uuid.uuid4().hex}"
    told: dict[str, Any] = {"driver": ray.get_runtime_context().get_node_id(), "storage": "", "nodes": []}
    try:
        folder.mkdir(parents=True)
        (folder / "head").write_text("")
    except OSError as error:
        told["storage"] = error.strerror or type(error).__name__
    sent: list[tuple[dict[str, Any], Any]] = []
    for node in ray.nodes():
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            looking = ray.remote(num_cpus=0, max_retries=0)(look).options(scheduling_strategy=pinned)
            sent.append((node, looking.remote(str(folder), node["NodeID"], asked["packages"], asked["ports"])))
    for node, answer in sent:
        one: dict[str, Any] = {"id": node["NodeID"], "address": node["NodeManagerAddress"], "labels": node["Labels"]}
        one |= {"cpus": node["Resources"].get("CPU", 0), "gpus": node["Resources"].get("GPU", 0)}
        try:
            one |= ray.get(answer, timeout=PATIENCE)
            if not one["storage"] and not (folder / one["id"]).exists():
                one["storage"] = "what it writes is not there on the head"
        except ray.exceptions.RayError as error:
            one["error"] = type(error).__name__
        told["nodes"].append(one)
    shutil.rmtree(folder, ignore_errors=True)
    print(MARK + json.dumps(told))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
