"""Keys change under way: one that is revoked ends, a new one holds, and a file that is wrong changes nothing but the log."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from serve import following
from serve.auth import Key, Keys, Scope, read_keys
from serve.keyring import Keyring, Renewal
from tests.serve.apps import ROUTE, SURE, bearer, key, served

LEAKED, FRESH = key("leaked", Scope.JUDGE), key("fresh", Scope.JUDGE)
GREEDY = key("greedy", Scope.JUDGE, target_accuracy=0.999)
"""A key for which no judge here can keep its promise."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that holds one key."""
    return written(tmp_path / "keys.json", LEAKED)


def written(file: Path, *keys: Key) -> Path:
    """`file`, which holds `keys`; put in the place of another as a whole."""
    beside = file.with_suffix(".new")
    beside.write_text(Keys(keys=keys).model_dump_json())
    return beside.replace(file)


def statuses(client: TestClient) -> list[int]:
    """What the holder of the leaked key gets, and that of the fresh one."""
    return [client.post(ROUTE, json={"input": SURE}, headers=bearer(one.name)).status_code for one in (LEAKED, FRESH)]


def until(is_so: Callable[[], bool]) -> None:
    """Wait for what `is_so`, 10 s at most."""
    ends = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_a_key_that_is_revoked_ends_while_the_service_runs(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "PERIOD", 0.01)
    with served(keys=read_keys(file), keys_file=file) as client:
        assert statuses(client) == [200, 401]
        written(file, LEAKED, FRESH)
        until(lambda: statuses(client) == [200, 200])
        written(file, FRESH)
        until(lambda: statuses(client) == [401, 200])


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "cannot be read as TOML or JSON (FileNotFoundError)"),
    "torn": (lambda file: file.write_text('{"keys": [{"name": "hunter2'), "cannot be read as TOML or JSON (JSONDecodeError)"),
    "deep": (lambda file: file.write_text("[" * 100_000), "cannot be read as TOML or JSON (RecursionError)"),
    "empty": (written, "holds no key"),
    "the key itself": (lambda file: file.write_text('{"keys": [{"sha256": "hunter2"}]}'), "keys.0.name"),
    "out of reach": (lambda file: written(file, GREEDY), "key greedy: target_accuracy=0.999 is not reachable"),
}


@pytest.mark.parametrize(("spoil", "told"), WRONG.values(), ids=WRONG)
def test_a_file_that_is_wrong_is_told_once_and_the_keys_before_hold(
    file: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object], told: str
) -> None:
    keyring = Keyring(read_keys(file))
    app = served(keys=keyring.keys).app
    renewal = Renewal(file, keyring, app.state.serving.check)  # type: ignore[attr-defined]
    spoil(file)
    for _ in range(3):
        asyncio.run(renewal.look())
    (record,) = [record for record in caplog.records if record.name == "serve.keyring"]
    line = record.getMessage()
    assert line.startswith("the file of keys is refused, and the keys before hold on: ")
    assert told in line
    assert len(line.splitlines()) == 1
    assert "hunter2" not in line
    assert [one.name for one in keyring.keys.keys] == ["leaked"]
    written(file, FRESH)
    asyncio.run(renewal.look())
    assert [one.name for one in keyring.keys.keys] == ["fresh"]
