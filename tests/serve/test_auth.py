"""Who gets in: every route with every key, keys that only look like one, and hosts that others can reach."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from know_thyself.errors import ConfigError
from know_thyself.testing import FakeJudge
from serve.auth import Keys, Scope, check_host, read_keys
from serve.routes import chat
from tests.serve.apps import BODIES as APP_BODIES
from tests.serve.apps import DECISIONS, KEYS, ROUTE, SURE, SYSTEMONE, bearer, key, served
from tests.serve.test_personas import FORECAST

WANTED = {
    ROUTE: "judge",
    SYSTEMONE: "judge",
    DECISIONS: "judge",
    "/v1/feedback": "feedback",
    chat.PATH: "judge",
    "/v1/models": "judge",
    "/metrics": "admin",
    "/health/live": None,
    "/health/ready": None,
}
"""The scope that each route wants."""
BODIES = {**APP_BODIES, chat.PATH: FORECAST, "/v1/feedback": {"id": "jdg-of-nobody", "correct": True}}
"""What each route that takes something takes."""
WITHIN = {"/v1/feedback": 404}
"""What who is let in gets where that is not 200."""


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of the OpenAPI document: path, method, and what it says of it."""
    for path, methods in served().get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_document_says_which_routes_want_a_key() -> None:
    assert {path: "security" in operation for path, _, operation in operations()} == {
        path: scope is not None for path, scope in WANTED.items()
    }


INVALID: dict[str, dict[str, Any]] = {
    "none": {},
    "empty": {"headers": {"Authorization": ""}},
    "no text": {"headers": {"Authorization": "Bearer"}},
    "unknown": {"headers": bearer("nobody")},
    "of another case": {"headers": bearer("ALL")},
    "digest for text": {"headers": bearer(KEYS.keys[3].sha256)},
    "expired": {"headers": bearer("ended")},
    "other scheme": {"headers": {"Authorization": "Basic all"}},
    "two in one": {"headers": bearer("all, Bearer all")},
    "other header": {"headers": {"X-API-Key": "all", "X-Forwarded-For": "127.0.0.1"}},
    "in the query": {"params": {"key": "all", "api_key": "all", "authorization": "Bearer all"}},
    "in a cookie": {"headers": {"Cookie": "Authorization=Bearer all"}},
    "not ASCII": {"headers": {"Authorization": b"Bearer \xff\xe9"}},
}


@pytest.mark.parametrize("sent", INVALID.values(), ids=INVALID)
def test_no_route_that_wants_a_key_answers_without_one(sent: dict[str, Any]) -> None:
    judge = FakeJudge()
    client = served(judge, keys=KEYS)
    for path, method, _ in operations():
        answer = client.request(method, path, json=BODIES.get(path), **sent)
        if WANTED[path] is None:
            assert answer.status_code == 200
        else:
            assert answer.status_code == 401, path
            assert answer.json()["error"]["type"] == "authentication_error"
            assert answer.headers["www-authenticate"] == "Bearer"
    assert judge.asked == []


@pytest.mark.parametrize("scope", [scope.value for scope in Scope])
def test_a_key_opens_the_routes_of_its_scope_alone(scope: str) -> None:
    client = served(keys=KEYS)
    for path, method, _ in operations():
        answer = client.request(method, path, json=BODIES.get(path), headers=bearer(scope))
        wanted = WITHIN.get(path, 200) if WANTED[path] in (scope, None) else 403
        assert answer.status_code == wanted, (path, scope)
        if wanted == 403:
            assert answer.json()["error"]["type"] == "permission_error"


def test_the_key_is_looked_at_before_the_body_is() -> None:
    client = served(keys=KEYS, max_body=10)
    for body in (b"{", b"x" * 100, b"[" * 5):
        assert client.post(ROUTE, content=body).status_code == 401


def test_without_keys_everyone_may_ask() -> None:
    assert served().post(ROUTE, json={"input": SURE}).status_code == 200
    assert served().get("/metrics").status_code == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_a_host_that_nobody_else_reaches_needs_no_key(host: str) -> None:
    check_host(host, Keys())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.7", "::ffff:10.0.0.7", "example.org", "localhost.example.org", ""])
def test_any_other_host_without_keys_is_refused(host: str) -> None:
    with pytest.raises(ConfigError, match="no keys are set up: give --keys, or use 127"):
        check_host(host, Keys())
    check_host(host, KEYS)


def written(folder: Path, text: str, name: str = "keys.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


ONE = f"""
[[keys]]
name = "app"
sha256 = "{"a" * 64}"
scopes = ["judge"]
threshold = 0.8
expires = 2030-01-01T00:00:00Z
"""


def test_keys_are_read_from_toml_and_json(tmp_path: Path) -> None:
    read = read_keys(written(tmp_path, ONE))
    (app,) = read.keys
    assert (app.name, app.scopes, app.threshold) == ("app", frozenset({Scope.JUDGE}), 0.8)
    assert read_keys(written(tmp_path, read.model_dump_json(), "keys.json")) == read


REFUSED = {
    "no key": ("", "holds no key"),
    "torn": (ONE[:20], "cannot be read as TOML or JSON"),
    "the key itself": (ONE.replace("a" * 64, "hunter2"), r"keys\.0\.sha256: String should match"),
    "no scope": (ONE.replace('["judge"]', "[]"), r"keys\.0\.scopes"),
    "unknown scope": (ONE.replace('"judge"', '"root"'), r"keys\.0\.scopes"),
    "unknown setting": (ONE + "surprise = 1", r"keys\.0\.surprise"),
    "a time of nowhere": (ONE.replace("00Z", "00"), r"keys\.0\.expires"),
    "twice": (ONE + ONE, "two keys have the same name"),
    "twice by other names": (ONE + ONE.replace("app", "other"), "two keys have the same sha256"),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_a_file_of_keys_that_is_wrong_is_refused_in_one_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told) as caught:
        read_keys(written(tmp_path, text))
    assert len(str(caught.value).splitlines()) == 1
    assert "hunter2" not in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FileNotFoundError"):
        read_keys(tmp_path / "none.toml")


def test_a_key_has_one_bar(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="the same thing twice"):
        key("both", Scope.JUDGE, threshold=0.5, target_accuracy=0.9)
    assert json.loads(KEYS.model_dump_json())["keys"][4]["threshold"] == 0.97
