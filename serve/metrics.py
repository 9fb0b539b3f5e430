"""What Prometheus is told: requests, and judgments by what they said. Nothing here is text that anyone sent."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from know_thyself.asking import Opinion
from know_thyself.wire import Decision

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
TENTHS = tuple(i / 10 for i in range(1, 11))


class Meter:
    """The counters of one app, in a registry of their own, so that two apps in a process do not mix."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter("kt_requests", "Requests answered", ["route", "status"], registry=self._registry)
        self._seconds = Histogram("kt_request_seconds", "Time to answer", ["route"], buckets=SECONDS, registry=self._registry)
        self._judgments = Counter("kt_judgments", "Judgments given", ["verdict", "decision"], registry=self._registry)
        self._refusals = Counter("kt_refusals", "Inputs without a judgment", ["fault"], registry=self._registry)
        self._failures = Counter(
            "kt_judge_failures", "Questions decided without a judgment", ["how", "decision"], registry=self._registry
        )
        self._confidence = Histogram(
            "kt_confidence", "P(event) as read, not calibrated", buckets=TENTHS, registry=self._registry
        )
        self._feedback = Counter(
            "kt_feedback", "Answers that were told to be right or wrong", ["correct"], registry=self._registry
        )
        self._losses = Counter("kt_journal_losses", "Rows that could not be written down", ["table"], registry=self._registry)

        self._roles = Counter("kt_judge_requests", "Requests by the judge that answers", ["role"], registry=self._registry)
        self._swaps = Counter("kt_swaps", "Judges that took over, or were kept out", ["outcome"], registry=self._registry)
        self._shadows = Counter("kt_shadow", "What the shadow judge says beside", ["outcome"], registry=self._registry)
        self._apart = Histogram(
            "kt_shadow_difference", "How far apart shadow and judge are in P(event)", buckets=TENTHS, registry=self._registry
        )
        self._waiting = Gauge("kt_waiting", "Questions that wait for the judge", registry=self._registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request to `route` that was answered with `status`."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def judgment(self, opinion: Opinion, decision: Decision) -> None:
        """Count a judgment."""
        self._judgments.labels(opinion.verdict.value, decision).inc()
        self._confidence.observe(opinion.confidence)

    def refusal(self, fault: str) -> None:
        """Count an input that got no judgment."""
        self._refusals.labels(fault).inc()

    def feedback(self, correct: bool) -> None:
        """Count a feedback that was kept."""
        self._feedback.labels(str(correct).lower()).inc()

    def loss(self, table: str) -> None:
        """Count a row of the journal that was lost."""
        self._losses.labels(table).inc()

    def failure(self, how: str, decision: Decision) -> None:
        """Count a question that was decided although the judge said nothing."""
        self._failures.labels(how, decision).inc()

    def role(self, role: Literal["prod", "canary"]) -> None:
        """Count a request that the judge in this `role` answers."""
        self._roles.labels(role).inc()

    def swap(self, outcome: Literal["done", "refused"]) -> None:
        """Count a judge that took over, or that was kept from it."""
        self._swaps.labels(outcome).inc()

    def shadow(self, used: Opinion, other: Opinion) -> None:
        """Count what the shadow said beside what was `used`."""
        self._shadows.labels("same" if used.verdict == other.verdict else "differs").inc()
        self._apart.observe(abs(used.confidence - other.confidence))

    def shadow_skipped(self, number: int) -> None:
        """Count questions on which the shadow was not asked, or failed."""
        self._shadows.labels("skipped").inc(number)

    def text(self, waiting: int) -> bytes:
        """All counters in the text format of Prometheus; `waiting` are the questions that wait now."""
        self._waiting.set(waiting)
        return generate_latest(self._registry)
