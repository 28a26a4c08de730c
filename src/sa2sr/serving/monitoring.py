"""What a server tells of itself, in Prometheus' text format."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Monitor:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        self.requests = Counter("sa2sr_requests", "Answered requests.", ("route", "status"), registry=self.registry)
        self.seconds = Histogram(
            "sa2sr_request_seconds", "Time to an answer.", ("route",), buckets=_LATENCIES, registry=self.registry
        )
        self.estimates = Histogram(
            "sa2sr_stream_seconds",
            "Time from the arrival of audio to the estimates that it completes.",
            buckets=_LATENCIES,
            registry=self.registry,
        )
        self.rows = Counter("sa2sr_rows", "Predicted stretches of audio.", registry=self.registry)
        self.audio = Counter("sa2sr_audio_seconds", "Predicted audio, overlaps counted again.", registry=self.registry)
        self.failures = Counter("sa2sr_failures", "Uploads that could not be predicted.", registry=self.registry)

    def watch(self, name: str, help_: str, value: Callable[[], float]) -> None:
        """Report a value that is looked up when it is asked for."""
        Gauge(name, help_, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """All of it."""
        return generate_latest(self.registry)
