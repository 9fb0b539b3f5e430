"""Whether a cluster is fit for a job: what its job server says, and what a job on every one of its nodes finds."""

from __future__ import annotations

import http.client
import json
import shlex
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from know_thyself.config import is_url
from know_thyself.doctor.findings import PORTS, Finding, judge_versions, our_ray, package_names
from know_thyself.doctor.here import read_token
from know_thyself.doctor.probe import MARK
from know_thyself.errors import ConfigError, first_line
from know_thyself.experiment.place import is_stored
from know_thyself.experiment.store import ENVIRONMENT

MARKET, SPOT = "ray.io/market-type", "spot"
"""The label of a node that says whether it may be taken away, and what it then says."""
REFUSED = (401, 403)
DRIVER = 580
"""NVIDIA's oldest driver of CUDA 13, which the lock is for."""
PROBE = Path(__file__).with_name("probe.py")
"""What is run on the nodes, as text."""
SERVE = next(port for port, what in PORTS.items() if what == "Ray Serve")
POLL = 0.5


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A token is shown to the address that was given, and to no other."""

    def redirect_request(self, *asked: Any, **more: Any) -> None:
        return None


OPENER = urllib.request.build_opener(_NoRedirect)


@dataclass(frozen=True, slots=True)
class JobServer:
    """The job server of a cluster, and the token that is shown to it; empty shows none."""

    address: str
    token: str

    def ask(self, path: str, method: str = "GET", body: dict[str, Any] | None = None) -> tuple[int, Any]:
        """Status and JSON of its answer, None where that is no JSON. Raises `OSError` when it cannot be reached."""
        request = urllib.request.Request(self.address + path, method=method)
        request.add_header("Content-Type", "application/json")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        data = None if body is None else json.dumps(body).encode()
        try:
            with OPENER.open(request, data, timeout=30) as reply:
                status, text = reply.status, reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, text = error.code, error.read()
        try:
            return status, json.loads(text)
        except ValueError:
            return status, None


def examine_cluster(address: str, root: str, patience: float) -> Iterator[Finding]:
    """Look at the cluster whose job server is at `address`, waiting `patience` seconds for the job on its nodes.

    `root` is that of the experiments, as its nodes name it. Raises `ConfigError` for an address or a root that cannot be one.
    """
    server = JobServer(_address(address), read_token())
    _check_root(root)
    try:
        yield from _examine(server, root, patience)
    except (OSError, http.client.HTTPException) as error:
        cause = getattr(error, "reason", error)
        reason = first_line(cause) if isinstance(cause, BaseException) else cause
        yield Finding("job server", False, f"no answer at {address} ({reason}): start the cluster, or forward its port")


def _check_root(root: str) -> None:
    """Raise `ConfigError` where all nodes of a cluster cannot name one place by `root`."""
    if is_url(root) and not is_stored(root):
        raise ConfigError(f"experiments-root={root} is no place that we can use: give s3://bucket/prefix or gs://bucket/prefix")
    if not is_url(root) and not Path(root).is_absolute():
        raise ConfigError(f"experiments-root={root} is relative, and names no folder of a cluster: give an absolute path")


def _examine(server: JobServer, root: str, patience: float) -> Iterator[Finding]:
    status, _ = JobServer(server.address, "").ask("/api/version")
    known, version = server.ask("/api/version")
    accepted = known not in REFUSED
    yield _judge_token(server.address, asks=status in REFUSED, accepted=accepted)
    if not accepted:
        return
    ray = version.get("ray_version") if isinstance(version, dict) else None
    if ray is None:
        yield Finding("job server", False, f"{server.address} is none of Ray's (status {known}): give that of the dashboard")
        return
    fits = ray == our_ray()
    yield Finding("Ray", fits, str(ray) if fits else f"{ray} there, {our_ray()} here: use the image of this version")
    told, fault = _run_probe(server, root, patience)
    if told is None:
        yield Finding("nodes", False, fault)
        return
    judge_root = partial(_judge_store, root) if is_url(root) else _judge_folder
    for judge in (_judge_nodes, _judge_head, _judge_versions, _judge_gpus, judge_root, _judge_ports):
        yield judge(told)


def _address(address: str) -> str:
    url = urlsplit(address)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise ConfigError(
            f"--address {address} is no job server: give it as ray job submit does, such as http://127.0.0.1:8265"
        )
    return address.rstrip("/")


def _judge_token(address: str, *, asks: bool, accepted: bool) -> Finding:
    if not asks:
        return Finding("token", False, f"{address} answers whoever asks: start the cluster with RAY_AUTH_MODE=token")
    if not accepted:
        return Finding("token", False, f"{address} refuses yours: put that of the cluster into ~/.ray/auth_token")
    return Finding("token", True, "asked for, and yours is accepted")


def _run_probe(server: JobServer, root: str, patience: float) -> tuple[dict[str, Any] | None, str]:
    """What the probe found on the nodes; None, with the reason and the remedy, where it found nothing."""
    job = f"doctor-{uuid.uuid4().hex[:8]}"
    asked = {"root": root, "packages": package_names(), "ports": [SERVE], "variables": ENVIRONMENT if is_url(root) else ()}
    words = ["python", "-c", PROBE.read_text(encoding="utf-8"), json.dumps(asked)]
    status, _ = server.ask("/api/jobs/", "POST", {"entrypoint": shlex.join(words), "submission_id": job})
    if status != 200:
        return None, f"the job server takes no job (status {status}): look at the dashboard"
    ended = _await(lambda: server.ask(f"/api/jobs/{job}")[1], patience)
    if ended is None:
        server.ask(f"/api/jobs/{job}/stop", "POST")
        return None, f"a job did not end within {patience:g} s: look at the dashboard, or give more --timeout"
    _, printed = server.ask(f"/api/jobs/{job}/logs")
    server.ask(f"/api/jobs/{job}", "DELETE")
    lines = str((printed or {}).get("logs", "")).splitlines()
    for line in lines:
        if line.startswith(MARK):
            return json.loads(line.removeprefix(MARK)), ""
    return None, f"a job ended as {ended}, saying: {(lines or ['nothing'])[-1]}"


def _await(record: Callable[[], Any], patience: float) -> str | None:
    """The status in which a job ended; None when it did not within `patience` seconds."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        status = (record() or {}).get("status")
        if status in ("SUCCEEDED", "FAILED", "STOPPED"):
            return str(status)
        time.sleep(POLL)
    return None


def _judge_nodes(told: dict[str, Any]) -> Finding:
    silent = [node["address"] for node in told["nodes"] if "error" in node]
    if silent:
        return Finding("nodes", False, f"no answer from {', '.join(silent)}: look at the dashboard")
    cpus = sum(node["cpus"] for node in told["nodes"])
    work = f"{cpus:g} CPUs for work" if cpus else "none for work yet: a job will wait for some, which were not looked at"
    return Finding("nodes", True, f"{len(told['nodes'])} alive, {work}")


def _judge_head(told: dict[str, Any]) -> Finding:
    """The driver of a job runs on the head, and with it ends the job."""
    market = {node["id"]: node["labels"].get(MARKET) for node in told["nodes"]}
    kinds = [str(kind or "not labelled") for kind in market.values()]
    counted = ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds)))
    if market.get(told["driver"]) == SPOT:
        return Finding("spot", False, f"jobs are driven from a spot node ({counted}): put the head on demand")
    if SPOT in kinds and "not labelled" in kinds:
        return Finding("spot", False, f"{counted}: label every node with {MARKET}, so that work can be kept off spot")
    known = (
        "jobs are driven from none of spot"
        if market.get(told["driver"])
        else "nothing says whether the one that drives jobs is"
    )
    return Finding("spot", True, f"{counted}; {known}")


def _judge_versions(told: dict[str, Any]) -> Finding:
    nodes = _answered(told)
    pythons = sorted({node["python"] for node in nodes})
    if len(pythons) > 1:
        return Finding("versions", False, f"Python {' and '.join(pythons)} in one cluster: use one image for all nodes")
    wrong = {found.told: node["address"] for node in nodes if not (found := judge_versions(node["packages"])).ok}
    if wrong:
        return Finding("versions", False, "; ".join(f"{address}: {fault}" for fault, address in wrong.items()))
    if not nodes:
        return Finding("versions", False, "no node answered")
    return Finding("versions", True, f"Python {pythons[0]}, {judge_versions(nodes[0]['packages']).told} on every node")


def _judge_gpus(told: dict[str, Any]) -> Finding:
    lacking = [n["address"] for n in _answered(told) if "vllm" in n["packages"] and n["cpus"] and not n["gpus"]]
    if lacking:
        return Finding("GPUs", False, f"the CUDA build without a GPU on {', '.join(lacking)}: use the CPU image there")
    dark = [n["address"] for n in _answered(told) if n["gpus"] > len(n["drivers"])]
    if dark:
        remedy = "give the container NVIDIA's runtime, and the machine a driver"
        return Finding("GPUs", False, f"more GPUs declared than nvidia-smi sees on {', '.join(dark)}: {remedy}")
    old = {version for n in _answered(told) for version in n["drivers"] if int(version.partition(".")[0]) < DRIVER}
    if old:
        return Finding(
            "GPUs", False, f"driver {', '.join(sorted(old))} is older than CUDA 13: use a machine image with {DRIVER}"
        )
    count = sum(node["gpus"] for node in told["nodes"])
    return Finding("GPUs", True, f"{count:g}" if count else "none, or none yet: engines run on CPUs, or wait for a node")


def _judge_folder(told: dict[str, Any]) -> Finding:
    faults = [f"the head: {told['storage']}"] if told["storage"] else _storage_faults(told)
    if faults:
        return Finding("storage", False, f"{'; '.join(faults)}: give an --experiments-root that all nodes share and can write")
    return Finding("storage", True, "every node reads and writes the same folder")


def _judge_store(root: str, told: dict[str, Any]) -> Finding:
    faults = _storage_faults(told) + ([f"the head: {told['storage']}"] if told["storage"] else [])
    if faults:
        remedy = "its bucket has to be there, and those nodes need a role or credentials to write, list, read and delete"
        endpoint = "; for a store of your own, the head needs AWS_ENDPOINT_URL" if root.startswith("s3:") else ""
        return Finding("storage", False, f"{'; '.join(faults)}: for {root}, {remedy}{endpoint}")
    return Finding("storage", True, f"every node writes, lists, reads and deletes below {root}")


def _storage_faults(told: dict[str, Any]) -> list[str]:
    """What is wrong with the storage on nodes, each fault after the addresses of those that have it."""
    places: dict[str, list[str]] = {}
    for node in _answered(told):
        if node["storage"]:
            places.setdefault(node["storage"], []).append(node["address"])
    return [f"{', '.join(addresses)}: {fault}" for fault, addresses in places.items()]


def _judge_ports(told: dict[str, Any]) -> Finding:
    taken = [node["address"] for node in _answered(told) if node["taken"]]
    if taken:
        return Finding("ports", True, f"{SERVE} is taken on {', '.join(taken)}, by Ray Serve if the judge is being served")
    return Finding("ports", True, f"{SERVE} of Ray Serve is free on every node")


def _answered(told: dict[str, Any]) -> list[dict[str, Any]]:
    return [node for node in told["nodes"] if "error" not in node]
