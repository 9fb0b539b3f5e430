"""A Ray cluster started separately, as an operator starts one: token authentication on, job server on loopback."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
HOST = "127.0.0.1"
STARTED = [RAY, "start", "--block", "--node-ip-address", HOST, "--object-store-memory", str(200 * 2**20)]
PORTS = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port", "dashboard-agent-grpc-port")


PROVIDER = "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider"
FAKE_HEAD = "f" * 51 + "00000"
SCALED = {
    "RAY_FAKE_CLUSTER": "1",
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD,
}
"""What Ray's own tests of its autoscaler tell the head."""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where its job server is and where nodes join, and the environment in which commands may talk to it."""

    server: str
    address: str
    environment: dict[str, str]

    @contextmanager
    def node(self, folder: Path, cpus: int) -> Iterator[str]:
        """A further node in a process tree of its own, whose log is in `folder`, and its id; ended as the cluster is."""
        node_id = secrets.token_hex(28)
        command = [*STARTED, "--num-cpus", str(cpus), "--address", self.address]
        log = folder / f"node-{node_id[:8]}.log"
        with _process(command, {**self.environment, "RAY_OVERRIDE_NODE_ID_FOR_TESTING": node_id}, log) as process:
            _await(lambda: "Ray runtime started" in log.read_text(), process, log)
            yield node_id

    def drain(self, node_id: str, seconds: int) -> None:
        """Have Ray drain a node, as the watcher does when a cloud will take it back in so many seconds."""
        command = [RAY, "drain-node", "--address", self.address, "--node-id", node_id]
        command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "the cloud wants it back"]
        command += ["--deadline-remaining-seconds", str(seconds)]
        subprocess.run(command, env=self.environment, check=True, capture_output=True, timeout=120)

    def submit(self, job_id: str, *entrypoint: str, timeout: float, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
        """`ray job submit` of `entrypoint` in a copy of `folder`, to its end, with a variable that jobs tell workers too."""
        command = [RAY, "job", "submit", "--address", self.server, "--submission-id", job_id, "--working-dir", str(folder)]
        command += ["--runtime-env-json", '{"env_vars": {"TOKENIZERS_PARALLELISM": "false"}}']
        return subprocess.run(
            [*command, "--", *entrypoint],
            env=self.environment,
            cwd=ROOT.parent,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def ask(self, path: str, token: str | None) -> tuple[int, str]:
        """Status and body of what the job server answers at `path` to one who shows `token`."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.server + path, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def told(self, path: str) -> dict[str, Any]:
        """What the job server tells at `path` to one who has the token."""
        status, body = self.ask(path, self.environment["RAY_AUTH_TOKEN"])
        assert status == 200, body
        return dict(json.loads(body))

    def job(self, job_id: str) -> dict[str, Any]:
        """The job server's record of a job."""
        return self.told(f"/api/jobs/{job_id}")

    def log(self, job_id: str) -> str:
        """What a job printed."""
        return str(self.told(f"/api/jobs/{job_id}/logs")["logs"])


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [one.getsockname()[1] for one in sockets]


@contextmanager
def cluster(folder: Path, cpus: int = 4, brings: int = 0, settings: Mapping[str, str] = {}) -> Iterator[Cluster]:
    """A cluster whose token is a file in `folder`, so far of its head alone; ended with all of its processes, and no others.

    Where nodes are asked for, Ray's autoscaler brings some, of so many CPUs, if it `brings` any. All its processes have
    `settings` in their environment.
    """
    token = secrets.token_hex(32)
    token_file = folder / "token"
    token_file.touch(mode=0o600)
    token_file.write_text(token)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "KT_"))}
    clean = {**kept, "RAY_AUTH_MODE": "token", "RAY_USAGE_STATS_ENABLED": "0", **settings}
    clean["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{clean['PATH']}"
    ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
    command = [*STARTED, "--head", "--num-cpus", str(cpus), "--dashboard-host", HOST, "--include-dashboard", "true"]
    command += [word for name, port in ports.items() for word in (f"--{name}", str(port))]
    if brings:
        command += ["--autoscaling-config", str(_scaling(folder, f"{HOST}:{ports['port']}", brings))]
        clean |= SCALED
    log = folder / "ray.log"
    with _process(command, {**clean, "RAY_AUTH_TOKEN_PATH": str(token_file)}, log) as head:
        server, address = f"http://{HOST}:{ports['dashboard-port']}", f"{HOST}:{ports['port']}"
        started = Cluster(server, address, {**clean, "RAY_AUTH_TOKEN": token})
        _await(lambda: _has_job_server(started), head, log)
        yield started


def _scaling(folder: Path, address: str, cpus: int) -> Path:
    """The settings of Ray's autoscaler for nodes of so many CPUs that are processes of this machine, as a file."""
    file = folder / "scaling.json"
    worker = {"resources": {"CPU": cpus}, "node_config": {}, "min_workers": 0, "max_workers": 2}
    head = {"resources": {"CPU": 0}, "node_config": {}, "max_workers": 0}
    told = {
        "cluster_name": "scaled",
        "max_workers": 2,
        "idle_timeout_minutes": 1,
        "provider": {"type": "external", "module": PROVIDER, "gcs_address": address, "head_node_id": FAKE_HEAD},
        "available_node_types": {"ray.head.default": head, "worker": worker},
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1,
        "auth": {},
        "docker": {},
        "initialization_commands": [],
        "setup_commands": [],
        "head_setup_commands": [],
        "worker_setup_commands": [],
        "head_start_ray_commands": [],
        "worker_start_ray_commands": [],
        "file_mounts": {},
        "cluster_synced_files": [],
        "file_mounts_sync_continuously": False,
        "rsync_exclude": [],
        "rsync_filter": [],
    }
    file.write_text(json.dumps(told))
    return file


@contextmanager
def _process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """`command` in a session of its own that prints to `log`; ended with everything it started."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, cwd=log.parent, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        _end(process)


def _await(reached: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while not reached():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.2)


def _has_job_server(started: Cluster) -> bool:
    try:
        status, _ = started.ask("/api/jobs/", started.environment["RAY_AUTH_TOKEN"])
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return status == 200


def _end(head: subprocess.Popen[bytes]) -> None:
    """End `head` and everything it started, by process id, and see that it is gone."""
    started = descendants(head.pid)
    head.kill()
    head.wait(timeout=30)
    for process, born in started.items():
        if _born(process) == born:
            os.kill(process, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while left := [process for process, born in started.items() if _born(process) == born]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.1)


def descendants(ancestor: int) -> dict[int, str]:
    """The processes that `ancestor` started, directly or not, each with its time of birth: an id may be used again."""
    parents = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal() and (fields := _stat(int(folder.name))):
            parents[int(folder.name)] = int(fields[1])
    found = {ancestor}
    while more := {process for process, parent in parents.items() if parent in found} - found:
        found |= more
    return {process: _born(process) for process in found - {ancestor}}


def _stat(process: int) -> list[str]:
    """The fields of /proc/<id>/stat after the command's name; none when the process is gone or only waits to be reaped."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return fields if fields[0] != "Z" else []


def _born(process: int) -> str:
    fields = _stat(process)
    return fields[19] if fields else ""
