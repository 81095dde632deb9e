"""Figures for Prometheus, and the outermost layer of the application that takes them. No label holds a person.

Belongs here: what is measured. Does not belong here: what the figures are of.
https://prometheus.github.io/client_python/
"""

import time
from collections.abc import Iterable
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from orchestration.online.service import Service

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)


class Metrics:
    """One application's figures."""

    def __init__(self, service: Service) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("segline_requests", "Requests", ["route", "status"], registry=self.registry)
        self.seconds = Histogram(
            "segline_request_seconds", "Time to answer", ["route"], buckets=BUCKETS, registry=self.registry
        )
        self.registry.register(_State(service))


class _State(Collector):
    """The service's own figures, read when they are asked for."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def collect(self) -> Iterable[Metric]:
        """The figures as they are now."""
        service, tally = self._service, self._service.tally
        for name, text, value in (
            ("segline_events_accepted", "Events made durable", tally.accepted),
            ("segline_events_replayed", "Events that were accepted before", tally.replayed),
            ("segline_subjects_evaluated", "Evaluations of a person", tally.evaluated),
            ("segline_evaluations", "Evaluations, of one or more persons", tally.evaluations),
            ("segline_evaluations_failed", "Evaluations that failed and are tried again", tally.failed_evaluations),
            ("segline_publications_loaded", "Publications put in charge", tally.loads),
        ):
            yield CounterMetricFamily(name, text, value=value)
        generation = service.generation
        yield GaugeMetricFamily("segline_subjects_pending", "Persons whose newest event waits", value=service.pending)
        yield GaugeMetricFamily("segline_ready", "Whether a publication is in charge", value=generation is not None)
        if generation:
            age = (service.clock() - generation.published.as_of).total_seconds()
            yield GaugeMetricFamily("segline_publication_age_seconds", "Age of what stands published", value=age)
            agrees = bool(generation.reconciliation and generation.reconciliation.passed)
            yield GaugeMetricFamily("segline_online_equals_batch", "Whether a sample was decided alike", value=agrees)


class Measured:
    """ASGI middleware: counts and times each request by its route, never by its path."""

    def __init__(self, app: Any, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def noting(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self._metrics.requests.labels(route, str(status)).inc()
            self._metrics.seconds.labels(route).observe(time.perf_counter() - began)
