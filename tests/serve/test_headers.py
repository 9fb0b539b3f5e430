"""What browsers are told with every answer, and whom the service answers at all where there are no keys."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from know_thyself.testing import FakeJudge
from serve.api import create_app
from serve.auth import Keys
from serve.errors import SECURE
from serve.policy import read_policy
from serve.routes.page import FOLDER, POLICY
from tests.serve.apps import KEYS, ROUTE, SURE, bearer, served

ASKED = {
    "success": ("GET", "/v1/models", 200),
    "a page's file": ("GET", "/page/page.js", 200),
    "not there": ("GET", "/page/nothing.js", 404),
    "invalid": ("POST", ROUTE, 422),
    "other method": ("PUT", ROUTE, 405),
}


@pytest.mark.parametrize(("method", "path", "status"), ASKED.values(), ids=ASKED)
def test_every_answer_tells_browsers_to_keep_it_to_itself(method: str, path: str, status: int) -> None:
    answer = served().request(method, path)
    assert answer.status_code == status
    assert {name: answer.headers[name] for name in SECURE} == SECURE


def test_so_does_the_answer_to_what_nobody_thought_of() -> None:
    judge = FakeJudge()
    judge.failure = ZeroDivisionError()
    answer = served(judge).post(ROUTE, json={"input": SURE})
    assert answer.status_code == 500
    assert {name: answer.headers[name] for name in SECURE} == SECURE


def test_the_page_may_run_its_own_scripts_and_no_other() -> None:
    answer = served().get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert {name: answer.headers[name] for name in SECURE} == {**SECURE, "Content-Security-Policy": POLICY}
    text = (FOLDER / "index.html").read_text()
    assert " style=" not in text
    assert text.count("<script") == text.count('<script type="module" src=')
    assert "//" not in text.replace("<!DOCTYPE html>", "")


def test_nothing_but_the_files_of_the_page_is_there() -> None:
    client = served()
    for file in FOLDER.iterdir():
        assert client.get(f"/page/{file.name}").status_code == 200
    for name in ("", "../api.py", "%2e%2e/api.py", "..%2fapi.py", "/etc/passwd", "%00", "x" * 5000):
        answer = client.get(f"/page/{name}")
        assert answer.status_code == 404, name
        assert answer.json()["error"]["code"] == "not_found"


def local(keys: Keys | None = None) -> TestClient:
    """The service as `python -m serve` has it where there are no keys."""
    app = create_app(FakeJudge(), read_policy(), keys or Keys(), loopback_only=True)
    return TestClient(app, base_url="http://127.0.0.1:8700", raise_server_exceptions=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:8700", "localhost:8700", "LOCALHOST", "[::1]:8700", "[::1]"])
def test_a_name_of_this_machine_is_answered(host: str) -> None:
    assert local().post(ROUTE, json={"input": SURE}, headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    (
        "evil.example 127.0.0.1.evil.example localhost.evil.example:8700 127.0.0.1@evil.example 10.0.0.7:8700 [::2] :8700 "
        "[127.0.0.1 [::1 evil.example#127.0.0.1 0.0.0.0"
    ).split(),
)
@pytest.mark.parametrize("path", ["/", "/v1/models", "/metrics", "/openapi.json"])
def test_a_name_that_was_made_to_mean_this_machine_is_refused(host: str, path: str) -> None:
    answer = local().get(path, headers={"Host": host})
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "invalid_host"
    assert "evil" not in answer.text
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_host_that_is_named_twice_is_refused() -> None:
    headers = [("Host", "127.0.0.1"), ("Host", "evil.example")]
    assert local().get("/v1/models", headers=headers).status_code == 400


def test_with_keys_any_name_will_do() -> None:
    answer = served(keys=KEYS).get("/v1/models", headers={"Host": "judge.example", **bearer("judge")})
    assert answer.status_code == 200
