"""`python -m serve`: what is wrong is told before anything heavy loads, and what is right is served."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import httpx2
import pytest
import uvicorn
from fastapi.testclient import TestClient

from benchmarks.service import free_port
from know_thyself.asking import Answer, Asked, Sampling
from know_thyself.client import local
from know_thyself.config import EngineConfig
from know_thyself.errors import ConfigError, JudgeError, KnowThyselfError
from know_thyself.judge import write_judge
from know_thyself.testing import FakeJudge, fake_card
from know_thyself.types import Finish
from know_thyself.wire import AUTO
from serve import following
from serve.__main__ import last_judge, parse, run, taken
from serve.auth import Keys, Scope
from serve.local import WARM_UP
from serve.middleware import Observer
from serve.routes import chat
from serve.tracing import Traced
from tests.serve.apps import ROUTE, SURE, UNSURE, bearer, key

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys
from serve.__main__ import main
sys.argv = ["serve", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules)
"""


SERVING = f"""
import sys, types
from pathlib import Path
from know_thyself.testing import FakeJudge

class LocalJudge(FakeJudge):
    def __init__(self, folder, engine, answers):
        super().__init__()
    def __enter__(self):
        return self
    def __exit__(self, *_):
        print("closed")

sys.modules["know_thyself.client.local"] = types.SimpleNamespace(LocalJudge=LocalJudge)
{PROGRAM.replace("print(*sys.modules)", "pass")}
"""
"""The program with a fake in the place of its judge."""


class Opened(FakeJudge):
    """In the place of `LocalJudge`: the same face, no engine."""

    closed = 0
    replied: ClassVar[list[str]] = []

    def __init__(
        self, folder: Path, engine: EngineConfig | None = None, answers: bool = False, beside: Opened | None = None
    ) -> None:
        super().__init__(fake_card(experiment=folder.parent.name))
        self.answers = answers

    def reply(self, asked: Asked, _: Sampling) -> Answer:
        """The same as `LocalJudge.reply` has it."""
        assert self.answers
        Opened.replied.append(asked.text)
        return Answer(text="Quorn.", finish=Finish.STOP, num_prompt_tokens=9, num_tokens=3)

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        Opened.closed += 1


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """The folder of a judge, as far as its card goes."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "tokenizer.json").write_text("{}")
    write_judge(tmp_path / "one" / "judge", fake_card(base=str(base)), None)
    return tmp_path / "one" / "judge"


def test_a_judge_is_served_and_closed(judge: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    answers = []

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        client = TestClient(server.config.app, base_url="http://localhost:1")  # type: ignore[arg-type]
        answers.append((sockets[0].getsockname(), client.post(ROUTE, json={"input": [SURE, UNSURE]}).json()))
        raise KeyboardInterrupt

    monkeypatch.setattr(local, "LocalJudge", Opened)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    port = free_port()
    run(parse(["--judge", str(judge), "--port", str(port)]))
    ((address, answer),) = answers
    assert address == ("127.0.0.1", port)
    assert answer["model"] == "kt/one"
    assert [said["decision"] for said in answer["data"]] == ["answer", "escalate"]
    assert Opened.closed == 1
    assert f"judging on http://127.0.0.1:{port}" in capsys.readouterr().err


def test_what_passes_is_answered_by_the_model_that_is_judged(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        client = TestClient(server.config.app, "http://127.0.0.1")  # type: ignore[arg-type]
        for text in (SURE, UNSURE):
            body = {"model": AUTO, "messages": [{"role": "user", "content": text}]}
            answers.append(client.post(chat.PATH, json=body).json()["choices"][0]["message"]["content"])

    monkeypatch.setattr(local, "LocalJudge", Opened)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    run(parse(["--judge", str(judge), "--port", str(free_port()), "--answer"]))
    assert answers == ["Quorn.", "I do not know."]
    assert Opened.replied == [WARM_UP.text, SURE]


def test_the_judge_that_a_registry_names_is_served(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Any] = []

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        client = TestClient(server.config.app, "http://127.0.0.1")  # type: ignore[arg-type]
        answers.extend(client.post("/v1/admin/judges/prod", json={"judge": name}).json() for name in ("new", "gone"))
        answers.append(client.post(ROUTE, json={"input": SURE}).json()["model"])

    monkeypatch.setattr(local, "LocalJudge", Opened)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    registry = judge.parents[1] / "registry"
    for name in ("old", "new"):
        shutil.copytree(judge, registry / name)
    assert "is no name of a judge" in str(refused("--registry", str(registry)))
    (registry / "prod").write_text("gone\n")
    assert "there is no judge gone" in str(refused("--registry", str(registry)))
    (registry / "prod").write_text("old\n")
    run(parse(["--registry", str(registry), "--port", "0"]))
    appointed, missing, model = answers
    assert (appointed["judge"], missing["error"]["code"], model) == ("new", "judge_not_found", "kt/registry")
    assert (registry / "prod").read_text() == "new\n"


@pytest.mark.parametrize("flags", [[], ["--otel"]], ids=["plain", "traced"])
def test_requests_are_traced_only_where_it_is_asked_for(judge: Path, monkeypatch: pytest.MonkeyPatch, flags: list[str]) -> None:
    found: list[Any] = []

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        app: Any = server.config.app
        found.extend(one.cls for one in app.user_middleware)

    monkeypatch.setattr(local, "LocalJudge", Opened)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    run(parse(["--judge", str(judge), "--port", "0", *flags]))
    assert (found[0] is Traced) == bool(flags)
    assert Observer in found


def test_the_file_of_keys_is_followed(judge: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        with TestClient(server.config.app, "http://127.0.0.1", headers=bearer("leaked")) as client:  # type: ignore[arg-type]
            assert client.get("/v1/models").status_code == 200
            keys.write_text(Keys(keys=(key("fresh", Scope.JUDGE),)).model_dump_json())
            ends = time.monotonic() + 10
            while client.get("/v1/models").status_code != 401:
                assert time.monotonic() < ends
                time.sleep(0.01)
            assert client.get("/v1/models", headers=bearer("fresh")).status_code == 200

    monkeypatch.setattr(local, "LocalJudge", Opened)
    monkeypatch.setattr(uvicorn.Server, "run", serve)
    monkeypatch.setattr(following, "PERIOD", 0.01)
    keys = judge.parent / "keys.json"
    keys.write_text(Keys(keys=(key("leaked", Scope.JUDGE),)).model_dump_json())
    run(parse(["--judge", str(judge), "--port", "0", "--keys", str(keys)]))


def test_one_judge_comes_from_one_place(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--judge", "a", "--registry", "b"])
    assert "not allowed with argument --judge" in capsys.readouterr().err


def answered(process: subprocess.Popen[str], url: str) -> httpx2.Response:
    """The answer of `url`, as soon as `process` listens."""
    for _ in range(600):
        assert process.poll() is None, process.communicate()
        try:
            return httpx2.get(url)
        except httpx2.ConnectError:
            time.sleep(0.1)
    raise AssertionError(f"nobody listens at {url}")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_over_http_until_it_is_stopped(judge: Path, stop: signal.Signals) -> None:
    port = free_port()
    command = [sys.executable, "-c", SERVING, "--judge", str(judge), "--port", str(port)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert answered(process, f"http://127.0.0.1:{port}/health/ready").json() == {"status": "ready"}
            answer = httpx2.post(f"http://127.0.0.1:{port}{ROUTE}", params={"key": "hunter2"}, json={"input": SURE})
            assert answer.json()["data"][0]["decision"] == "answer"
            process.send_signal(stop)
            said, log = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, said.split()) == (0, ["closed"]), log
    assert f"serve.access INFO POST {ROUTE} 200" in log
    assert SURE not in log
    assert "hunter2" not in log


def refused(*arguments: str) -> KnowThyselfError:
    """What `arguments` are refused with."""
    with pytest.raises(KnowThyselfError) as caught:
        run(parse(list(arguments)))
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def test_what_is_wrong_is_told_in_one_line(judge: Path, tmp_path: Path) -> None:
    astray = tmp_path / "astray.toml"
    astray.write_text('[default]\nthreshold = 0.5\n[routes."/v1/models"]\nthreshold = 0.5\n')
    assert "decides nothing" in str(refused("--judge", str(judge), "--policy", str(astray)))
    eager = tmp_path / "eager.toml"
    eager.write_text("[default]\ntarget_accuracy = 0.99\n")
    gated = tmp_path / "gated.toml"
    gated.write_text("[default]\nthreshold = 0.5\n[gate]\n")
    assert "give --answer" in str(refused("--judge", str(judge), "--policy", str(gated)))
    upstream = '[gate.upstream]\nbase_url = "http://127.0.0.1:9/v1"\nmodel = "large"\nkey_variable = "NO_KEY"\n'
    gated.write_text(f'[default]\nthreshold = 0.5\n[gate]\nbelow = "escalate"\n{upstream}')
    assert "NO_KEY holds no key" in str(refused("--judge", str(judge), "--policy", str(gated), "--answer"))
    assert "no keys are set up" in str(refused("--judge", str(judge), "--host", "0.0.0.0"))
    crowded = tmp_path / "crowded.toml"
    crowded.write_text('shadow = "new"\n[default]\nthreshold = 0.5\n')
    assert "a shadow: not on CPU" in str(refused("--judge", str(judge), "--policy", str(crowded)))
    assert "not reachable with this judge" in str(refused("--judge", str(judge), "--policy", str(eager)))
    assert "holds no judge.json" in str(refused("--judge", str(tmp_path)))
    assert "cannot be read" in str(refused("--judge", str(judge), "--keys", str(tmp_path / "none.toml")))
    assert "cannot listen on 127.0.0.1 port 99999" in str(refused("--judge", str(judge), "--port", "99999"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"cannot listen on 127.0.0.1 port {port}" in str(refused("--judge", str(judge), "--port", port))
    shutil.rmtree(judge)
    assert isinstance(refused("--judge", str(judge)), JudgeError)


def test_the_judge_of_the_last_experiment_is_served_unless_another_is_given(
    judge: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KT_EXPERIMENTS", str(tmp_path))
    assert "yet: run make demo first" in str(refused())
    (tmp_path / "latest").write_text("one\n")
    (judge.parent / "config.json").write_text("{}")
    assert last_judge(tmp_path) == judge
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "cannot listen" in str(refused("--port", str(other.getsockname()[1]))), "the judge was found, and comes first"
    shutil.rmtree(judge)
    assert "the last experiment, one, has no judge yet: run make demo first, or give --judge" in str(refused())


def test_an_address_that_is_taken_answers_nobody_yet() -> None:
    with taken("127.0.0.1", 0) as address, pytest.raises(ConnectionRefusedError):
        socket.create_connection(address.getsockname(), timeout=5)
    with pytest.raises(ConfigError, match=r"cannot listen on nowhere\.invalid"):
        taken("nowhere.invalid", 8700)


@pytest.mark.parametrize(
    ("arguments", "code"), [(["--help"], 0), (["--judge", "none"], 2), (["--judge", "none", "--host", "0.0.0.0"], 2)]
)
def test_help_and_what_is_wrong_come_before_anything_heavy(arguments: list[str], code: int) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    loaded = set(done.stdout.splitlines()[-1].split())
    assert loaded & {"torch", "transformers", "vllm", "ray"} == set()
    if code:
        assert done.stderr.startswith("error: ")
        assert len(done.stderr.splitlines()) == 1
