"""OpenTelemetry, where it is asked for: a span for every request, in the trace of its caller, with no text of it."""

from __future__ import annotations

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from know_thyself import __version__
from serve.middleware import METHODS, UNMATCHED


class Traced:
    """Gives every request a span of `provider`: method, route, status, and nothing that the client wrote."""

    def __init__(self, app: ASGIApp, provider: TracerProvider) -> None:
        self._app, self._tracer = app, provider.get_tracer("know-thyself", __version__)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        method = scope["method"] if scope["method"] in METHODS else "OTHER"
        with self._tracer.start_as_current_span(
            method, _caller(scope), SpanKind.SERVER, record_exception=False, set_status_on_exception=False
        ) as span:
            span.set_attribute("http.request.method", method)
            status = 500

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                    span.set_attribute("http.response.status_code", status)
                    if status >= 500:
                        span.set_status(StatusCode.ERROR)
                await send(message)

            try:
                await self._app(scope, receive, watched)
            except Exception:
                # Unless an answer has begun, one of 500 is given outside of all middleware.
                span.set_attribute("http.response.status_code", status)
                span.set_status(StatusCode.ERROR)
                raise
            finally:
                route = getattr(scope.get("route"), "path", UNMATCHED)
                span.set_attribute("http.route", route)
                span.update_name(f"{method} {route}")


def _caller(scope: Scope) -> Context:
    """The trace that the caller of a request says it belongs to (W3C `traceparent`)."""
    headers = {name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]}
    return TraceContextTextMapPropagator().extract(headers)


def exporting() -> TracerProvider:
    """What sends spans to where `OTEL_EXPORTER_OTLP_ENDPOINT` says, http://localhost:4318 without."""
    provider = TracerProvider(resource=Resource.create({SERVICE_NAME: "know-thyself"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider
