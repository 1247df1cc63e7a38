"""Metrics as Prometheus reads them: what was counted, and what the store says at the moment of reading."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import product

from attrs import Factory, define, field, frozen
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from application.agenda import Agenda
from application.jobs import Job, JobBook
from application.observer import Observer
from application.outbox import LetterState, Outbox
from application.ports import Clock, Orders
from domain.errors import Discrepancy, PaymentError

log = logging.getLogger(__name__)

READ_SECONDS_MAX = 5.0  # the store has this long to answer; Prometheus itself waits ten
COUNTED_MAX = 1000  # entries that one reading looks at: beyond that, a thousand says enough
RESULTS = ("taken", "signature", "serial", "clock", "decrypt", "malformed", "order_not_found", "fault")
METHODS = frozenset({"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"})
REQUEST_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
WECHAT_BUCKETS = (0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@frozen(kw_only=True)
class Vitals:
    """What only WeChat's side of the house knows.

    `skew_seconds`: how far our clock was ahead of WeChat's. `expiries`: by owner
    (merchant, platform) and serial, when each certificate ends.
    """

    skew_seconds: float = 0.0
    expiries: Mapping[tuple[str, str], datetime] = Factory(dict)


@frozen(kw_only=True)
class Sources:
    """Where the gauges are read; every read is bounded."""

    orders: Orders
    agenda: Agenda
    outbox: Outbox
    jobs: JobBook
    vitals: Callable[[], Vitals] = Vitals
    schedule: Callable[[], Sequence[Job]] = tuple  # which jobs there are, and how often


@define
class Counts:
    """The counters and histograms, made once in a registry of our own."""

    registry: CollectorRegistry

    def counter(self, name: str, meaning: str, *labels: str) -> Counter:
        return Counter(f"minitill_{name}", meaning, labels, registry=self.registry)

    def gauge(self, name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(f"minitill_{name}", meaning, labels, registry=self.registry)

    def histogram(self, name: str, meaning: str, label: str, buckets: Sequence[float]) -> Histogram:
        return Histogram(f"minitill_{name}", meaning, [label], buckets=buckets, registry=self.registry)


@define
class Metrics(Observer):
    """Counts what it is told; every label comes from a list of ours or a key we hold."""

    registry: CollectorRegistry = field(factory=CollectorRegistry)
    creates: Counter = field(init=False)
    notifications: Counter = field(init=False)
    verifications: Counter = field(init=False)
    discrepancies: Counter = field(init=False)
    wechat_errors: Counter = field(init=False)
    wechat_seconds: Histogram = field(init=False)
    requests: Counter = field(init=False)
    request_seconds: Histogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        ProcessCollector(registry=self.registry)
        made = Counts(self.registry)
        self.creates = made.counter("creates", "New orders by what WeChat answered", "outcome")
        self.notifications = made.counter(
            "notifications", "Notifications by version and result: taken, or why not", "version", "result"
        )
        self.verifications = made.counter(
            "verifications",
            "Signatures of WeChat's looked at, by result and by the serial of the key",
            "version",
            "result",
            "serial",
        )
        self.discrepancies = made.counter(
            "discrepancies", "WeChat's verified word against ours, by code", "code"
        )
        self.wechat_errors = made.counter(
            "wechat_errors", "Calls to WeChat that were not done, by code", "call", "outcome", "code"
        )
        self.wechat_seconds = made.histogram(
            "wechat_seconds", "How long WeChat took, repeats included", "call", WECHAT_BUCKETS
        )
        self.requests = made.counter("http_requests", "Requests answered", "method", "route", "status")
        self.request_seconds = made.histogram(
            "http_seconds", "How long requests took", "route", REQUEST_BUCKETS
        )

        self._begin_at_zero()

    def _begin_at_zero(self) -> None:
        """What has not happened yet is 0: where a series begins with its first event, none sees it rise."""
        for outcome in ("accepted", "refused", "unknown"):
            self.creates.labels(outcome)
        for version, result in product(("v2", "v3"), RESULTS):
            self.notifications.labels(version, result)
        kinds: tuple[type[Discrepancy], ...] = (Discrepancy, *Discrepancy.__subclasses__())
        for kind in kinds:
            self.discrepancies.labels(kind.code)

    def created(self, outcome: str) -> None:
        self.creates.labels(outcome).inc()

    def notified(self, version: str, result: str) -> None:
        self.notifications.labels(version, result).inc()

    def verified(self, version: str, result: str, serial: str) -> None:
        self.verifications.labels(version, result, serial).inc()

    def disagreed(self, code: str) -> None:
        self.discrepancies.labels(code).inc()

    def called(self, call: str, outcome: str, code: str, seconds: float) -> None:
        self.wechat_seconds.labels(call).observe(seconds)
        if outcome != "done":
            self.wechat_errors.labels(call, outcome, code).inc()

    def served(self, method: str, route: str, status: int, seconds: float) -> None:
        self.requests.labels(method if method in METHODS else "other", route, str(status)).inc()
        self.request_seconds.labels(route).observe(seconds)


GAUGES: Mapping[str, tuple[str, ...]] = {  # name: meaning and labels
    "store_up": ("Whether the database answered at this reading",),
    "orders": ("Orders by status", "status"),
    "pending_oldest_seconds": ("Age of the oldest order still PENDING",),
    "unanswered_orders": ("Orders that WeChat may have taken or not; 1000 at most",),
    "unanswered_oldest_seconds": ("Age of the oldest of them",),
    "outbox_lag_seconds": ("Age of the oldest letter that the shop has not heard",),
    "outbox_set_aside": ("Letters given up on; 1000 at most",),
    "job_last_run_timestamp_seconds": ("When a job last ended a round", "name"),
    "job_interval_seconds": ("How often a job runs", "name"),
    "job_failures": ("Rounds of a job that failed, ever", "name"),
    "certificate_days_left": ("Days until a certificate ends", "owner", "serial"),
    "clock_skew_seconds": ("How far our clock is ahead of WeChat's",),
}


@define
class Gauges:
    """What is read at the moment Prometheus asks, one reading at a time."""

    metrics: Metrics
    sources: Sources
    clock: Clock
    _gauges: dict[str, Gauge] = field(factory=dict, init=False)
    _reading: asyncio.Lock = field(factory=asyncio.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        made = Counts(self.metrics.registry)
        self._gauges = {name: made.gauge(name, *told) for name, told in GAUGES.items()}

    async def render(self) -> bytes:
        """Everything in Prometheus' text form; a database that gives way shows as minitill_store_up 0."""
        async with self._reading:
            self._read_vitals()
            try:
                async with asyncio.timeout(READ_SECONDS_MAX):
                    await self._read_store()
            except (OSError, PaymentError) as error:  # a TimeoutError is an OSError
                log.warning("metrics without the store: %s %s", type(error).__name__, error)
                self._set("store_up", 0)
            else:
                self._set("store_up", 1)
            return generate_latest(self.metrics.registry)

    def _read_vitals(self) -> None:
        vitals = self.sources.vitals()
        self._set("clock_skew_seconds", vitals.skew_seconds)
        self._gauges["certificate_days_left"].clear()  # one that is gone is none that ends
        for (owner, serial), at in vitals.expiries.items():
            self._set("certificate_days_left", (at - self.clock()) / timedelta(days=1), owner, serial)

    async def _read_store(self) -> None:
        sources = self.sources
        for status, orders in (await sources.orders.counts()).items():
            self._set("orders", orders, status.value)
        self._set("pending_oldest_seconds", self._age(await sources.agenda.oldest_pending()))
        unanswered = await sources.agenda.unanswered(COUNTED_MAX)
        self._set("unanswered_orders", len(unanswered))
        self._set("unanswered_oldest_seconds", self._age(unanswered[0] if unanswered else None))
        self._set("outbox_lag_seconds", self._age(await sources.outbox.oldest_waiting()))
        aside = await sources.outbox.letters(LetterState.SET_ASIDE, COUNTED_MAX)
        self._set("outbox_set_aside", len(aside))
        for job in sources.schedule():
            self._set("job_interval_seconds", job.every.total_seconds(), job.name)
        for ran in await sources.jobs.ran():
            if ran.last_run_at is not None:
                self._set("job_last_run_timestamp_seconds", ran.last_run_at.timestamp(), ran.name)
            self._set("job_failures", ran.failures, ran.name)

    def _set(self, name: str, value: float, *labels: str) -> None:
        gauge = self._gauges[name]
        (gauge.labels(*labels) if labels else gauge).set(value)

    def _age(self, since: datetime | None) -> float:
        return max(0.0, (self.clock() - since).total_seconds()) if since else 0.0
