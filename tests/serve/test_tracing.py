"""Spans, where they are asked for: one for each request, in its caller's trace, and nothing of what was asked."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from know_thyself.errors import EngineError
from know_thyself.testing import FakeAnswerer, FakeJudge
from know_thyself.wire import AUTO
from serve.__main__ import parse
from serve.api import create_app
from serve.auth import Keys
from serve.policy import read_policy
from serve.routes import chat
from serve.tracing import Traced, exporting
from tests.serve.apps import ROUTE, SURE

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


def traced(spans: InMemorySpanExporter, judge: FakeJudge | None = None, answerer: FakeAnswerer | None = None) -> TestClient:
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(spans))
    app = create_app(judge or FakeJudge(), read_policy(), Keys(), answerer)
    app.add_middleware(Traced, provider=provider)
    return TestClient(app, raise_server_exceptions=False)


def told(span: ReadableSpan) -> tuple[str, dict[str, object]]:
    return span.name, dict(span.attributes or {})


def test_every_request_has_a_span_in_the_trace_of_its_caller(spans: InMemorySpanExporter) -> None:
    client = traced(spans)
    client.post(ROUTE, json={"input": SURE}, params={"q": "hunter2"}, headers={"traceparent": f"00-{TRACE}-{PARENT}-01"})
    client.get("/no/such/place")
    judged, lost = spans.get_finished_spans()
    assert told(judged) == (
        f"POST {ROUTE}",
        {"http.request.method": "POST", "http.route": ROUTE, "http.response.status_code": 200},
    )
    assert told(lost)[0] == "GET unmatched"
    assert judged.kind == SpanKind.SERVER
    assert judged.parent is not None
    assert (f"{judged.context.trace_id:032x}", f"{judged.parent.span_id:016x}") == (TRACE, PARENT)
    assert lost.parent is None
    for text in (SURE, "hunter2", "such/place"):
        assert text not in judged.to_json() + lost.to_json()


def test_errors_of_the_service_are_errors_of_the_span_without_their_text(spans: InMemorySpanExporter) -> None:
    judge = FakeJudge()
    judge.failure = EngineError(SURE)
    client = traced(spans, judge)
    client.post(ROUTE, json={"input": SURE})
    client.post(ROUTE, json={"input": ""})
    failed, refused = spans.get_finished_spans()
    assert (failed.status.status_code, refused.status.status_code) == (StatusCode.ERROR, StatusCode.UNSET)
    assert SURE not in failed.to_json()


def test_a_fault_of_our_own_is_an_error_of_the_span_without_its_text(spans: InMemorySpanExporter) -> None:
    judge, answerer = FakeJudge(), FakeAnswerer()
    client = traced(spans, judge, answerer)
    answerer.failure, answerer.pieces = RuntimeError(SURE), 1
    body = {"model": AUTO, "messages": [{"role": "user", "content": SURE}], "stream": True}
    client.post(chat.PATH, json=body)
    judge.failure = RuntimeError(SURE)
    assert client.post(ROUTE, json={"input": SURE}).status_code == 500
    broken, failed = spans.get_finished_spans()
    for span, route, status in ((broken, chat.PATH, 200), (failed, ROUTE, 500)):
        assert span.status.status_code == StatusCode.ERROR
        assert told(span)[1] == {"http.request.method": "POST", "http.route": route, "http.response.status_code": status}
        assert SURE not in span.to_json()


def test_nothing_is_traced_unless_it_is_asked_for() -> None:
    assert parse(["--judge", "a"]).otel is False
    assert parse(["--judge", "a", "--otel"]).otel is True


def test_spans_go_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    provider = exporting()
    assert provider.resource.attributes["service.name"] == "know-thyself"
    provider.shutdown()
