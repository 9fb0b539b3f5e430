"""`know-thyself batch`: one line out for each line in, in order, over a service and over a judge in this process."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from know_thyself.asking import Asked
from know_thyself.cli import main
from know_thyself.client import AsyncKnowThyself
from know_thyself.client.batch import answers, read_lines
from know_thyself.config import EngineConfig
from know_thyself.judge import write_judge
from know_thyself.testing import FakeJudge, fake_card, fake_confidence
from serve.api import create_app
from serve.policy import read_policy
from tests.serve.apps import DECISIONS, KEYS, ROUTE, SURE, SYSTEMONE, UNSURE, decisions, running, scripted, systemone


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with running(create_app(FakeJudge(), read_policy(), KEYS)) as address:
        yield address


def line(name: str, body: object, url: str = ROUTE, **more: Any) -> dict[str, Any]:
    return {"custom_id": name, "method": "POST", "url": url, "body": body, **more}


LINES: list[Any] = [
    line("sure", {"input": SURE}),
    line("many", {"input": [UNSURE, ""], "threshold": 0.9}),
    line("refused", {"input": " "}),
    "{",
    line("astray", {"input": SURE}, url="/v1/embeddings"),
    {"custom_id": "headless", "body": {}},
    line("half \ud800", {"input": "half \ud800"}),
    line("systemone", systemone(), url=SYSTEMONE),
    line("decisions", decisions(), url=DECISIONS),
    [1],
    b"\xff\xfe{",
    b"[" * 100_000,
    line("unsure", {"input": UNSURE}),
]
CODES = {3: "invalid_json", 4: "invalid_line", 5: "invalid_line", 9: "invalid_line", 10: "invalid_json", 11: "invalid_json"}
STATUSES = [200, 200, 400, None, None, None, 400, 200, 200, None, None, None, 200]


def written(folder: Path, lines: list[Any], end: bytes = b"\n") -> Path:
    """A file of `lines`, of which the texts and bytes stand as they are."""
    raw = [one if isinstance(one, bytes) else (one if isinstance(one, str) else json.dumps(one)).encode() for one in lines]
    (folder / "in.jsonl").write_bytes(end.join(raw) + end)
    return folder / "in.jsonl"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """The exit code of the command."""
    monkeypatch.setattr(sys, "argv", ["know-thyself", "batch", *map(str, arguments)])
    with pytest.raises(SystemExit) as leaving:
        main()
    return int(leaving.value.code or 0)


def results(file: Path) -> list[dict[str, Any]]:
    return [json.loads(one) for one in file.read_text().splitlines()]


def check(found: list[dict[str, Any]]) -> None:
    """Hold `found` to what `LINES` are answered with."""
    assert [one["id"] for one in found] == [f"batch-{number}" for number in range(1, len(LINES) + 1)]
    assert [one["custom_id"] for one in found] == [one.get("custom_id") if isinstance(one, dict) else None for one in LINES]
    assert [one["response"] and one["response"]["status_code"] for one in found] == STATUSES
    assert {place: one["error"]["code"] for place, one in enumerate(found) if one["error"]} == CODES
    sure = found[0]["response"]["body"]["data"][0]
    assert (sure["decision"], sure["p_correct"]) == ("answer", pytest.approx(fake_confidence(Asked(text=SURE))))
    assert found[2]["response"]["body"]["error"]["code"] == "empty_input"
    assert found[7]["response"]["body"]["answers"]["can_answer"]["type"] == "noul"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n"], ids=["unix", "windows", "blank lines"])
def test_each_line_is_answered_in_its_place(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], end: bytes
) -> None:
    monkeypatch.setenv("KT_API_KEY", "judge")
    out = tmp_path / "out.jsonl"
    assert run(monkeypatch, "-i", written(tmp_path, LINES, end), "-o", out, "--url", url) == 0
    found = results(out)
    if end == b"\n\n":
        assert [one["id"] for one in found] == [f"batch-{number}" for number in range(1, 2 * len(LINES), 2)]
        found = [{**one, "id": f"batch-{number}"} for number, one in enumerate(found, 1)]
    check(found)
    assert "5 of 13 lines answered" in capsys.readouterr().err
    assert SURE not in json.dumps([one["error"] for one in found])


def test_the_key_is_taken_from_the_environment(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KT_API_KEY", "feedback")
    run(monkeypatch, "-i", written(tmp_path, LINES[:1]), "-o", tmp_path / "out.jsonl", "--url", url)
    assert results(tmp_path / "out.jsonl")[0]["response"]["status_code"] == 403


class Opened(FakeJudge):
    """In the place of `LocalJudge`: the same face, no engine."""

    def __init__(self, folder: Path, engine: EngineConfig, answers: bool) -> None:
        assert not answers
        super().__init__()
        self.folder = folder

    def __enter__(self) -> Opened:
        return self

    def __exit__(self, *_: object) -> None:
        (self.folder / "closed").touch()


def test_a_judge_of_this_process_answers_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "know_thyself.client.local", types.SimpleNamespace(LocalJudge=Opened))
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "tokenizer.json").write_text("{}")
    write_judge(tmp_path / "judge", fake_card(base=str(tmp_path / "base")), None)
    out = tmp_path / "out.jsonl"
    assert run(monkeypatch, "-i", written(tmp_path, LINES), "-o", out, "--judge", tmp_path / "judge") == 0
    check(results(out))
    assert (tmp_path / "judge" / "closed").exists()


def test_what_is_wrong_with_the_whole_is_told_in_one_line_and_writes_nothing(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = written(tmp_path, LINES[:1]), tmp_path / "out.jsonl"
    twice = tmp_path / "twice"
    twice.mkdir()
    written(twice, [LINES[0], LINES[1], LINES[0]])

    def told(*arguments: object) -> str:
        assert run(monkeypatch, *arguments) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert not out.exists()
        return str(said)

    assert "give one of --url and --judge" in told("-i", source, "-o", out)
    assert "give one of --url and --judge" in told("-i", source, "-o", out, "--url", url, "--judge", tmp_path)
    assert "cannot be read (No such file" in told("-i", tmp_path / "none", "-o", out, "--url", url)
    assert "lines 1 and 3 have the same custom_id" in told("-i", twice / "in.jsonl", "-o", out, "--url", url)
    assert "cannot write" in told("-i", source, "-o", tmp_path / "none" / "out.jsonl", "--url", url)
    assert "holds no judge.json" in told("-i", source, "-o", out, "--judge", tmp_path)
    monkeypatch.setattr(sys.modules["know_thyself.cli.batch"], "ROOT", tmp_path)
    assert "takes the code of the service" in told("-i", source, "-o", out, "--judge", tmp_path)


def test_a_file_that_is_there_is_kept(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine")
    assert run(monkeypatch, "-i", written(tmp_path, LINES[:1]), "-o", out, "--url", url) == 2
    assert "is there already and is kept" in capsys.readouterr().err
    assert out.read_text() == "mine"


def test_a_service_that_is_not_there_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    out = tmp_path / "out.jsonl"
    code = run(monkeypatch, "-i", written(tmp_path, LINES), "-o", out, "--url", f"http://127.0.0.1:{port}", "--timeout", 0.2)
    assert code == 1
    assert "cannot be reached" in capsys.readouterr().err


def test_an_answer_whose_encoding_is_broken_costs_its_line_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [line(str(i), {"input": SURE}) for i in range(3)]
    with scripted((200, {"content-encoding": "gzip"}, b"no gzip")) as (address, _):
        assert run(monkeypatch, "-i", written(tmp_path, lines), "-o", tmp_path / "out.jsonl", "--url", address) == 0
    faults = [one["error"] and one["error"]["code"] for one in results(tmp_path / "out.jsonl")]
    assert sorted(faults, key=str) == [None, None, "unreadable"]


def test_a_key_that_cannot_be_sent_is_told_in_one_line(
    tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("KT_API_KEY", "hünter2")
    assert run(monkeypatch, "-i", written(tmp_path, LINES), "-o", tmp_path / "out.jsonl", "--url", url) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "holds no key" in said
    assert "nter2" not in said


class Slow:
    """A client whose first answer comes when all others that may be under way have come."""

    def __init__(self, concurrency: int) -> None:
        self._others, self._concurrency = asyncio.Event(), concurrency
        self.under_way = self.most = self.done = 0

    async def post(self, path: str, body: bytes) -> Any:
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        if json.loads(body) == {"input": "0"}:
            await self._others.wait()
        await asyncio.sleep(0)
        self.under_way -= 1
        self.done += 1
        if self.done == self._concurrency - 1:
            self._others.set()
        return types.SimpleNamespace(status_code=200, headers={}, json=lambda: json.loads(body))


def test_lines_are_under_way_together_and_come_out_in_order() -> None:
    lines = read_lines(b"\n".join(json.dumps(line(str(i), {"input": str(i)})).encode() for i in range(20)))

    async def played() -> tuple[list[Any], int]:
        slow = Slow(4)
        client: AsyncKnowThyself = slow  # type: ignore[assignment]
        return [result.response and result.response.body async for result in answers(lines, client, 4)], slow.most

    found, most = asyncio.run(played())
    assert found == [{"input": str(i)} for i in range(20)]
    assert most == 4
