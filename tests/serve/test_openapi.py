"""The OpenAPI document is whole: every route with what it takes, gives and refuses, and its examples are true."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from starlette.routing import Route

from know_thyself.errors import JudgeError
from know_thyself.testing import FakeAnswerer
from know_thyself.wire import (
    AppointedJudge,
    Appointment,
    ChatCompletion,
    ChatRequest,
    DecisionRequest,
    DecisionResponse,
    ErrorResponse,
    FeedbackRequest,
    FeedbackResponse,
    JudgmentRequest,
    JudgmentResponse,
    ModelList,
    SystemOneRequest,
    SystemOneResponse,
)
from serve.judging import Judge
from serve.registry import Registry, Successors
from serve.serving import Others
from tests.serve.apps import served


async def nobody(folder: Path) -> Judge:
    """In the place of what makes a judge ready."""
    raise JudgeError("no judge here")


APP = served(others=Others(successors=Successors(Registry(Path("none")), nobody)))
"""A service with every route that there is."""
DOCUMENT = APP.get("/openapi.json").json()
OPERATIONS = {f"{method} {path}": said for path, methods in DOCUMENT["paths"].items() for method, said in methods.items()}


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    """What `schema` refers to."""
    name = schema["$ref"].removeprefix("#/components/schemas/") if "$ref" in schema else None
    found: dict[str, Any] = DOCUMENT["components"]["schemas"][name] if name else schema
    return found


def alternatives(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """What `schema` leaves the choice between, itself where it leaves none."""
    found: list[dict[str, Any]] = schema.get("oneOf") or schema.get("anyOf") or [schema]
    return found


def schemas(said: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Status, kind of content and the description of every answer of an operation."""
    for status, answer in said["responses"].items():
        for kind, content in answer["content"].items():
            yield status, kind, content


def test_the_document_has_every_route_of_the_app() -> None:
    app = APP.app
    routes = {route.path for route in app.routes if isinstance(route, Route | APIRoute)}  # type: ignore[attr-defined]
    assert routes - {"/openapi.json", "/"} <= set(DOCUMENT["paths"])
    judging = {"/v1/judgments", "/v1/chat/completions", "/v1/systemone", "/v1/decisions"}
    besides = {"/v1/feedback", "/v1/models", "/v1/admin/judges/prod", "/metrics", "/health/live", "/health/ready"}
    assert set(DOCUMENT["paths"]) == judging | besides


@pytest.mark.parametrize("said", OPERATIONS.values(), ids=OPERATIONS)
def test_every_operation_is_told_with_its_answers_and_errors(said: dict[str, Any]) -> None:
    assert said["summary"]
    assert said["description"]
    assert "200" in said["responses"]
    assert "500" in said["responses"]
    for status, kind, content in schemas(said):
        for one in alternatives(content["schema"]):
            schema = resolved(one)
            if status == "200":
                assert schema["type"] in ("object", "string")
                assert "examples" in schema or "example" in content
                continue
            assert (kind, schema["title"]) == ("application/json", "ErrorResponse")
            assert schema["examples"]
    if "security" in said:
        assert {"401", "403", "429"} <= set(said["responses"])
        assert said["security"] == [{"HTTPBearer": []}]


def test_what_is_sent_is_told_with_examples() -> None:
    said = OPERATIONS["post /v1/judgments"]
    assert {"400", "404", "413", "422", "503"} <= set(said["responses"])
    schema = resolved(said["requestBody"]["content"]["application/json"]["schema"])
    assert schema["title"] == "JudgmentRequest"
    assert len(schema["examples"]) >= 4
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize("path", ["/v1/systemone", "/v1/decisions"])
def test_either_path_is_told_to_take_and_give_either_shape(path: str) -> None:
    said = OPERATIONS[f"post {path}"]
    sent = said["requestBody"]["content"]["application/json"]["schema"]
    given = said["responses"]["200"]["content"]["application/json"]["schema"]
    for schema, kind in ((sent, "Request"), (given, "Response")):
        told = [resolved(one) for one in alternatives(schema)]
        assert [one["title"] for one in told] == [f"SystemOne{kind}", f"Decision{kind}"]
        assert all(one["additionalProperties"] is False and one["examples"] for one in told)


def test_no_field_is_without_a_type() -> None:
    for name, schema in DOCUMENT["components"]["schemas"].items():
        for field, told in schema.get("properties", {}).items():
            assert told.keys() & {"type", "$ref", "anyOf", "oneOf", "const", "enum"}, f"{name}.{field}"


def examples(model: Any) -> list[Any]:
    found: list[Any] = model.model_config["json_schema_extra"]["examples"]
    return found


def test_the_examples_are_what_is_taken_and_given() -> None:
    client = served(answerer=FakeAnswerer())
    for path, request in {"/v1/judgments": JudgmentRequest, "/v1/chat/completions": ChatRequest}.items():
        for body in examples(request):
            assert client.post(path, json=body).status_code == 200, body
    for path in ("/v1/systemone", "/v1/decisions"):
        for body in [*examples(SystemOneRequest), *examples(DecisionRequest)]:
            assert client.post(path, json={**body, "model": "kt/fake"}).status_code == 200, body
    for body in examples(FeedbackRequest):
        assert client.post("/v1/feedback", json=body).json()["error"]["code"] == "feedback_off", body
    models = (
        AppointedJudge,
        Appointment,
        JudgmentResponse,
        SystemOneResponse,
        DecisionResponse,
        FeedbackResponse,
        ModelList,
        ChatCompletion,
        ErrorResponse,
    )
    for model in models:
        for example in examples(model):
            assert model.model_validate(example).model_dump(mode="json") == example
