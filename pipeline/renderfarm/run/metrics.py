"""Prometheus metrics of a run, and /healthz, over HTTP. Read from the driver's tally alone; Ray's own metrics are flushed late.

The driver publishes a frozen snapshot at most once a second; scrapes read the newest one from their own threads. Everything is counted from
the start of this run but `renderfarm_images`, which is the whole job. No registry or other state is shared by the process.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from renderfarm.job import JobSettings
from renderfarm.logs import get_logger
from renderfarm.run.loop import Load, Tally

log = get_logger()

PUBLISHED_EVERY_S = 1.0
STALE_S = 300.0
"""A driver that has not looked at its tally for so long hangs: no wait or storage retry of ours lasts longer."""


@dataclass(frozen=True, slots=True)
class TallyCopy:
    """A tally at one moment."""

    images: dict[str, int] = field(default_factory=dict)
    planned: int = 0
    attempts: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    rejected: int = 0
    committed: int = 0
    pending: int = 0
    renderers: int = 0
    busy_s: float = 0.0
    elapsed_s: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    load: Load = field(default_factory=Load)
    committed_at: float = 0.0

    @classmethod
    def of(cls, tally: Tally, committed_at: float) -> TallyCopy:
        """A copy that no later change reaches."""
        images = {
            "accepted": tally.accepted,
            "exhausted": tally.exhausted,
            "failed": tally.failed,
            "remaining": tally.remaining,
        }
        return cls(
            images,
            tally.planned,
            tally.attempts_now,
            dict(tally.reasons),
            tally.rejected_attempts,
            tally.committed,
            tally.pending,
            tally.renderers,
            tally.busy_s,
            tally.elapsed_s,
            dict(tally.cpu_s),
            tally.load,
            committed_at,
        )


class Metrics(Collector):
    """A view of the tally, and what Prometheus reads of it."""

    def __init__(self, job: str, clock: Callable[[], float] = time.time) -> None:
        self._job, self._clock = job, clock
        self._begun = self._beat = clock()
        self._published_at = float("-inf")
        self._committed, self._committed_at = 0, 0.0
        self._snapshot = TallyCopy()

    def __call__(self, tally: Tally) -> None:
        """Take in the newest tally."""
        now = self._beat = self._clock()
        if tally.committed != self._committed:
            self._committed, self._committed_at = tally.committed, now
        if now - self._published_at >= PUBLISHED_EVERY_S or not tally.remaining:
            self._published_at = now
            self._snapshot = TallyCopy.of(tally, self._committed_at)

    def healthy(self) -> bool:
        """Whether the driver moves. While models load there is no tally yet: that counts from the start."""
        return self._clock() - self._beat < STALE_S

    def collect(self) -> Iterator[Metric]:
        found = self._snapshot
        yield self._family("images", "Images of the job by state; they add up to those planned", "state", found.images)
        yield self._one("planned_images", "Images that the newest plan holds", found.planned)
        yield self._counter("attempts", "Attempts recorded, or stored and about to be", {"": found.attempts})
        yield self._counter("rejected_attempts", "Attempts that the checks rejected", {"": found.rejected})
        yield self._counter("rejections", "Rejections by check; an attempt may have several", found.reasons, "check")
        yield self._counter("committed_records", "Records in parts: what no crash can lose", {"": found.committed})
        yield self._one("stored_records", "Records of stored pictures that are in no part yet: a crash renders them again", found.pending)
        yield self._one("last_commit_timestamp_seconds", "When the last part was committed; 0 before the first", found.committed_at)
        yield self._one("renderers", "Renderers that the run asked for", found.renderers)
        yield self._counter("renderer_busy_seconds", "Time that renderers spent rendering", {"": found.busy_s})
        yield self._one("renderer_busy_ratio", "Share of the renderers' time since the run began that they rendered", self._busy(found))
        stages = {"render": found.load.rendering, "check": found.load.checking, "store": found.load.storing}
        yield self._family("units_in_flight", "Leased units by stage", "stage", stages)
        yield self._one("bytes_in_flight", "Bytes of the pixels of leased units", found.load.bytes_in_flight)
        waiting = found.load.waiting
        queues = {"retries": waiting.retries, "returned": waiting.returned, "ahead": waiting.ahead}
        yield self._family(
            "queued_attempts", "Attempts that wait: rejected ones, those of lost units, new ones read ahead", "queue", queues
        )
        yield self._counter("cpu_seconds", "CPU time by stage", found.cpu_s, "stage")
        yield self._one("run_seconds", "Seconds since the first lease", found.elapsed_s)
        yield self._one("last_step_timestamp_seconds", "When the driver last took a step", self._beat)

    @staticmethod
    def _busy(found: TallyCopy) -> float:
        there_s = found.elapsed_s * found.renderers
        return min(1.0, found.busy_s / there_s) if there_s > 0 else 0.0

    def _family(self, name: str, text: str, label: str, values: dict[str, int]) -> Metric:
        made = GaugeMetricFamily(f"renderfarm_{name}", text, labels=("render_job", label))
        for key, value in values.items():
            made.add_metric((self._job, key), value)
        return made

    def _one(self, name: str, text: str, value: float) -> Metric:
        made = GaugeMetricFamily(f"renderfarm_{name}", text, labels=("render_job",))
        made.add_metric((self._job,), value)
        return made

    def _counter(self, name: str, text: str, values: dict[str, Any], label: str = "") -> Metric:
        made = CounterMetricFamily(f"renderfarm_{name}", text, labels=("render_job", label) if label else ("render_job",), created=None)
        for key, value in values.items():
            made.add_metric((self._job, key) if label else (self._job,), value)
        return made


class _Quiet(WSGIRequestHandler):
    timeout = 10

    def log_message(self, format: str, *args: Any) -> None:
        return


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


@contextlib.contextmanager
def serving(metrics: Metrics, job: JobSettings) -> Iterator[str | None]:
    """/metrics and /healthz for the time of the block; their address, or None. A port that is taken is a warning, not the run's end."""
    settings = job.farm.metrics
    if settings.port is None:
        yield None
        return
    try:
        server = make_server(settings.host, settings.port, _application(metrics), _Server, _Quiet)
    except (OSError, UnicodeError) as error:
        log.warning("metrics.not_served", host=settings.host, port=settings.port, reason=getattr(error, "strerror", None) or str(error))
        yield None
        return
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="metrics", daemon=True)
    thread.start()
    try:
        address = f"http://{settings.host}:{server.server_address[1]}"
        log.info("metrics.served", address=address)
        yield address
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _application(metrics: Metrics) -> Callable[[Any, Any], Any]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    exposition = make_wsgi_app(registry)

    def application(environ: Any, start_response: Any) -> Any:
        match environ["PATH_INFO"]:
            case "/metrics":
                return exposition(environ, start_response)
            case "/healthz":
                status, body = ("200 OK", b"ok\n") if metrics.healthy() else ("503 Service Unavailable", b"the driver takes no steps\n")
            case _:
                status, body = "404 Not Found", b"/metrics and /healthz are here\n"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
        return [body]

    return application
