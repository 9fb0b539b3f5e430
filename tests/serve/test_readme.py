"""What the README says of the service is run as it is printed, against the service on the fake judge."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from know_thyself.testing import FakeAnswerer, FakeJudge
from know_thyself.wire import JudgmentResponse
from serve.api import create_app
from serve.auth import Keys, read_keys
from serve.journal import Journal
from serve.metrics import Meter
from serve.policy import read_policy
from serve.service import Backing
from tests.serve.apps import running

ROOT = Path(__file__).parents[2]
PRINTED = "http://127.0.0.1:8700"
"""Where the README has the service."""
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## Serve it\n")[2].partition("\n## ")[0]


def blocks(language: str) -> list[str]:
    """The blocks of code of `language` in the section on the service."""
    return re.findall(rf"^```{language}\n(.*?)^```$", SECTION, re.DOTALL | re.MULTILINE)


def commands(program: str) -> list[list[str]]:
    """The lines that begin with `program` as a shell reads them, each with the lines that go on with it."""
    lines = "\n".join(blocks("")).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith(program)]


CURLS, SNIPPETS = commands("curl"), blocks("python")


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    meter, policy = Meter(), read_policy()
    with Journal(tmp_path_factory.mktemp("journal") / "journal.db", policy.journal, meter) as journal:
        backing = Backing(meter=meter, journal=journal)
        app = create_app(FakeJudge(), policy, Keys(), FakeAnswerer(), backing, loopback_only=True)
        with running(app) as address:
            yield address


def filled(printed: str, address: str) -> str:
    """What is `printed`, with what a reader puts in the place of addresses, names and ids."""
    there = printed.replace(PRINTED, address).replace("kt/<name>", "kt/fake")
    return there.replace("jdg-…", judged(address)) if "jdg-…" in there else there


def judged(address: str) -> str:
    """The id of a judgment."""
    return str(httpx2.post(f"{address}/v1/judgments", json={"input": "Where was Ada born?"}).json()["id"])


def test_there_is_something_to_run() -> None:
    assert CURLS
    assert SNIPPETS
    assert PRINTED in SECTION


@pytest.mark.parametrize("command", CURLS, ids=range(len(CURLS)))
def test_a_curl_command_is_answered(address: str, command: list[str]) -> None:
    called = [*(filled(part, address) for part in command), "--silent", "--show-error", "--fail-with-body"]
    done = subprocess.run(called, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    if "/v1/judgments" in " ".join(command):
        assert JudgmentResponse.model_validate_json(done.stdout).data


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(len(SNIPPETS)))
def test_a_python_snippet_runs(address: str, snippet: str) -> None:
    program = [sys.executable, "-c", filled(snippet, address)]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip(), "an example shows something"


def test_the_answer_that_is_shown_is_of_the_shape_that_is_given(address: str) -> None:
    (shown,) = [block for block in blocks("json") if '"object": "judgment"' in block]
    example = json.loads(shown.replace(", …}", "}").replace("…", "9f3a5c1e7b20"))
    given = JudgmentResponse.model_validate_json(
        subprocess.run(
            [*(part.replace(PRINTED, address) for part in CURLS[0]), "--silent"], capture_output=True, check=True, timeout=30
        ).stdout
    ).model_dump(mode="json")
    assert example.keys() == given.keys()
    assert example["data"][0].keys() == given["data"][0].keys()


def test_the_file_of_keys_that_is_shown_is_one(tmp_path: Path) -> None:
    (shown,) = [block for block in blocks("toml") if "[[keys]]" in block]
    (tmp_path / "keys.toml").write_text(shown.replace("…", "0" * 64), encoding="utf-8")
    assert [key.name for key in read_keys(tmp_path / "keys.toml").keys] == ["app"]


@pytest.mark.parametrize("command", [*commands("make serve"), *commands("python -m serve")], ids=" ".join)
def test_the_command_that_starts_it_is_known(command: list[str]) -> None:
    if command[0] == "make":
        done = subprocess.run(["make", "--dry-run", *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert "python -m serve" in done.stdout, done.stderr
        return
    done = subprocess.run([sys.executable, "-m", "serve", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    flags = [part for part in command if part.startswith("--")]
    assert all(flag in done.stdout for flag in flags)
