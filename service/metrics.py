"""What the service counts, for Prometheus. One registry per application, so that two in one process do not mix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from typing import Self

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from index.errors import StoreError
from index.info import CollectionInfo

CONTENT_TYPE = CONTENT_TYPE_LATEST
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class _Read(Collector):
    """A counter whose value somebody else keeps."""

    def __init__(self, name: str, text: str, read: Callable[[], float]) -> None:
        self._name, self._text, self._read = name, text, read

    def collect(self) -> Iterator[CounterMetricFamily]:
        yield CounterMetricFamily(self._name, self._text, value=self._read())


class Stopwatch:
    """Milliseconds since it was made, or until it was stopped."""

    def __init__(self) -> None:
        self._start = perf_counter()
        self._end: float | None = None

    def stop(self) -> None:
        self._end = perf_counter()

    @property
    def ms(self) -> float:
        return ((self._end or perf_counter()) - self._start) * 1000


class Stage(Stopwatch):
    """Times the block it is entered for, and counts it unless it raises."""

    def __init__(self, series: Histogram) -> None:
        super().__init__()
        self._series = series

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.stop()
            self._series.observe(self.ms / 1000)


class Metrics:
    """Counters and histograms; gauges read their value when they are asked."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "lookalike_requests_total",
            "Requests answered, by route template, method and status",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "lookalike_request_seconds", "From arrival to answer", ["route"], buckets=SECONDS, registry=self.registry
        )
        self.stage_seconds = Histogram(
            "lookalike_stage_seconds",
            "One picture or query in one stage: decode, embed, search, write",
            ["stage"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.cache = Counter(
            "lookalike_embedding_cache_total",
            "Pictures whose vector was cached (hit), being made already (joined) or made (miss)",
            ["outcome"],
            registry=self.registry,
        )
        self.store_errors = Counter(
            "lookalike_store_errors_total",
            "Reads and writes that failed because of the disk or of what is on it, by kind of error",
            ["error"],
            registry=self.registry,
        )
        # `labels` costs more than counting does.
        self._stages = {name: self.stage_seconds.labels(name) for name in ("decode", "embed", "search", "write")}
        self._outcomes = {name: self.cache.labels(name) for name in ("hit", "joined", "miss")}
        self._answers: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def gauge(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Registers `name` as a gauge whose value is `read()` at scrape time."""
        Gauge(name, text, registry=self.registry).set_function(read)

    def counter(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Registers `name` as a counter whose value is `read()` at scrape time."""
        self.registry.register(_Read(name, text, read))

    def labelled(self, name: str, text: str, labels: list[str]) -> Gauge:
        """A gauge with labels, set by its owner."""
        return Gauge(name, text, labels, registry=self.registry)

    def stage(self, name: str) -> Stage:
        """A context that times a stage which succeeds; it keeps the figure as `ms`."""
        return Stage(self._stages[name])

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts one answer. Few combinations exist, so their series are looked up once."""
        key = (method, route, status)
        series = self._answers.get(key)
        if series is None:
            series = self._answers[key] = (
                self.requests.labels(method, route, str(status)),
                self.request_seconds.labels(route),
            )
        series[0].inc()
        series[1].observe(seconds)

    def cached(self, outcome: str) -> None:
        """Counts one picture by how its vector came: hit, joined, miss."""
        self._outcomes[outcome].inc()

    def store_failed(self, error: StoreError) -> None:
        """Counts one read or write that the disk, or what is on it, made fail."""
        self.store_errors.labels(type(error).__name__).inc()

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)


class CollectionGauges:
    """The collections: how much they hold, what goes on in their search indexes, and what that has cost."""

    def __init__(self, metrics: Metrics) -> None:
        one = ["collection"]
        self._items = metrics.labelled("lookalike_collection_items", "Items of a collection", one)
        self._vectors = metrics.labelled(
            "lookalike_index_vectors",
            "Rows of a search index: in the compressed part, newer ones, deleted ones",
            [*one, "part"],
        )
        self._memory = metrics.labelled("lookalike_index_memory_bytes", "Memory of a compressed index", one)
        self._filters = metrics.labelled("lookalike_filter_bytes", "Memory of the keys filtered by", one)
        self._damaged = metrics.labelled(
            "lookalike_collection_damaged", "Items left out because what is stored of them is damaged", one
        )
        self._recall = metrics.labelled(
            "lookalike_index_recall", "Share of the true ten nearest that searches find, as measured", one
        )
        self._low = metrics.labelled("lookalike_index_recall_low", "Lower end of its 95 % interval", one)
        self._filtered = metrics.labelled(
            "lookalike_index_recall_filtered",
            "The same under a filter that this share of the items pass",
            [*one, "share"],
        )
        self._wanted = metrics.labelled(
            "lookalike_index_recall_wanted", "Share of the true nearest that searches are to find", one
        )
        self._progress = metrics.labelled("lookalike_index_progress", "Of a build under way, 0 to 1", one)
        self._runs = metrics.labelled("lookalike_index_work_runs", "Builds, merges and saves", [*one, "action"])
        self._seconds = metrics.labelled("lookalike_index_work_seconds", "Time they took", [*one, "action"])

    def set(self, infos: Iterable[CollectionInfo]) -> None:
        """All collections there are now; those that are gone lose their series."""
        for gauge in (
            self._items,
            self._vectors,
            self._memory,
            self._filters,
            self._damaged,
            self._recall,
            self._low,
            self._filtered,
            self._wanted,
            self._progress,
            self._runs,
            self._seconds,
        ):
            gauge.clear()
        for info in infos:
            self._set(info)

    def _set(self, info: CollectionInfo) -> None:
        index = info.index
        self._items.labels(info.name).set(info.count)
        self._wanted.labels(info.name).set(info.recall)
        for part, vectors in (("indexed", index.indexed), ("tail", index.tail), ("dead", index.dead)):
            self._vectors.labels(info.name, part).set(vectors)
        self._memory.labels(info.name).set(index.memory_bytes)
        self._filters.labels(info.name).set(index.filter_bytes)
        self._damaged.labels(info.name).set(index.damaged)
        if index.recall is not None:
            self._recall.labels(info.name).set(index.recall.value)
            self._low.labels(info.name).set(index.recall.low)
            for each in index.recall.filtered:
                self._filtered.labels(info.name, str(each.share)).set(each.value)
        if index.action == "build":
            self._progress.labels(info.name).set(index.progress)
        for action, spent in index.work.items():
            self._runs.labels(info.name, action).set(spent.runs)
            self._seconds.labels(info.name, action).set(spent.seconds)
