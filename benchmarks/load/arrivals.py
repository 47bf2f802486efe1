"""Open-loop arrivals: requests are due at times fixed beforehand, and waited for since then, whatever became of others.

A client that asks again only when it was answered would leave out just the requests that a slow moment hits.
"""

from __future__ import annotations

import queue
import random
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from benchmarks.load.target import Target

_STAGES = re.compile(rb'"took_ms":\{([^}]*)\}')
_STAGE = re.compile(rb'"(\w+)":([0-9.eE+-]+)')


@dataclass(frozen=True, slots=True)
class Ask:
    """route: as the document names it; kind: of the picture, "" without one."""

    route: str
    kind: str
    request: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """seconds: since the request was due; status: 0 where the connection broke; stages: milliseconds by name."""

    route: str
    kind: str
    status: int
    seconds: float
    stages: dict[str, float]


@dataclass(slots=True)
class Run:
    """offered, seconds: rate asked for, and how long it took until the last answer; client_cpu: CPU seconds."""

    offered: float
    seconds: float = 0.0
    client_cpu: float = 0.0
    seen: list[Seen] = field(default_factory=list)


def due_times(rate: float, seconds: float, rng: random.Random) -> list[float]:
    """Arrivals of independent visitors (a Poisson process): seconds since the start, ascending."""
    times: list[float] = []
    at = rng.expovariate(rate)
    while at < seconds:
        times.append(at)
        at += rng.expovariate(rate)
    return times


def arrive(
    target: Target, ask: Callable[[], Ask], *, rate: float, seconds: float, rng: random.Random, connections: int = 64
) -> Run:
    """Asks at `rate` per second for `seconds`, over at most `connections` kept-alive connections."""
    times = due_times(rate, seconds, rng)
    return _send(target, [(at, ask()) for at in times], rate, connections)


def _send(target: Target, planned: Sequence[tuple[float, Ask]], rate: float, connections: int) -> Run:
    run = Run(rate)
    waiting: queue.SimpleQueue[tuple[float, Ask] | None] = queue.SimpleQueue()

    def work() -> None:
        connection = target.connection()
        while (due := waiting.get()) is not None:
            at, ask = due
            try:
                status, body = connection.ask(ask.request)
            except (OSError, ValueError):
                status, body = 0, b""
            run.seen.append(Seen(ask.route, ask.kind, status, time.perf_counter() - started - at, stages_of(body)))
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(connections)]
    cpu, started = time.process_time(), time.perf_counter()
    for thread in threads:
        thread.start()
    for at, ask in planned:
        time.sleep(max(0.0, started + at - time.perf_counter()))
        waiting.put((at, ask))
    for _ in threads:
        waiting.put(None)
    for thread in threads:
        thread.join()
    run.seconds = time.perf_counter() - started
    run.client_cpu = time.process_time() - cpu
    return run


def stages_of(body: bytes) -> dict[str, float]:
    """Milliseconds by stage of an answer's `took_ms`, read without parsing the rest; empty where there is none."""
    found = _STAGES.search(body)
    return {name.decode(): float(value) for name, value in _STAGE.findall(found[1])} if found else {}
