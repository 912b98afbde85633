"""What is counted of a server, in Prometheus' form."""

from typing import Any

from compressor.core.errors import installed
from exporters.server.models import Models

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Metrics:
    """Counters of requests, texts and tokens; the process's own memory and time."""

    def __init__(self, models: Models) -> None:
        library: Any = installed("prometheus_client", "prometheus-client", "serve")
        self._library, self._registry = library, library.CollectorRegistry()
        own = {"registry": self._registry}
        self._requests = library.Counter("compressor_requests", "Requests answered.", ["path", "status"], **own)
        self._seconds = library.Histogram(
            "compressor_request_seconds", "Seconds from a request to its answer.", ["path"], buckets=_SECONDS, **own
        )
        self._texts = library.Counter("compressor_texts", "Texts or questions computed.", ["model"], **own)
        self._tokens = library.Counter("compressor_tokens", "Tokens computed.", ["model"], **own)
        waiting = library.Gauge("compressor_waiting_texts", "Texts that no worker has begun.", ["model"], **own)
        for name, model in models.by_name.items():
            waiting.labels(name).set_function(lambda batcher=model.batcher: batcher.waiting)
        self.requests = library.Gauge("compressor_open_requests", "Requests taken and not answered.", **own)
        library.ProcessCollector(registry=self._registry)

    def answered(self, path: str, status: int, seconds: float) -> None:
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def computed(self, model: str, texts: int, tokens: int) -> None:
        self._texts.labels(model).inc(texts)
        self._tokens.labels(model).inc(tokens)

    def text(self) -> tuple[bytes, str]:
        """Return all figures, and the media type of their form."""
        return self._library.generate_latest(self._registry), self._library.CONTENT_TYPE_LATEST
