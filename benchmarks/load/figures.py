"""From what was seen to figures: percentiles, errors by kind, saturation, objectives that are missed."""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.load.arrivals import Run, Seen

OBJECTIVES = Path(__file__).with_name("objectives.toml")
SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99, "p99.9": 0.999}
ERRORS = {0: "connection broken", 429: "429 too many requests", 503: "503 overloaded"}
# Fewer answers than this have no p99: it would be their slowest.
ENOUGH = 100


def percentiles(values: Sequence[float]) -> dict[str, float | None]:
    """By nearest rank; None without a value."""
    ranked = sorted(values)
    last = len(ranked) - 1
    return {
        name: ranked[min(last, math.ceil(share * len(ranked)) - 1)] if ranked else None
        for name, share in SHARES.items()
    }


def answered(seen: Sequence[Seen]) -> list[Seen]:
    return [each for each in seen if 200 <= each.status < 300]


def row(seen: Sequence[Seen]) -> dict[str, Any]:
    """Count, errors by kind, and milliseconds since the requests were due, of the answered ones."""
    good = answered(seen)
    errors = Counter(ERRORS.get(each.status, str(each.status)) for each in seen if not 200 <= each.status < 300)
    return {"count": len(seen), "errors": dict(errors), "ms": percentiles([each.seconds * 1e3 for each in good])}


def summary(run: Run, *, service_cpu: float | None, memory_mib: float | None) -> dict[str, Any]:
    """A scenario's figures. service_cpu: CPU seconds; None where the service is not on this machine."""
    good = answered(run.seen)
    groups = sorted({(each.route, each.kind) for each in run.seen})
    stages = sorted({name for each in good for name in each.stages})
    return {
        "offered_per_second": run.offered,
        "answered_per_second": len(good) / run.seconds,
        "seconds": run.seconds,
        **row(run.seen),
        "routes": [
            {"route": route, "picture": kind, **row([s for s in run.seen if (s.route, s.kind) == (route, kind)])}
            for route, kind in groups
        ],
        "stages_ms": {name: percentiles([s.stages[name] for s in good if name in s.stages]) for name in stages},
        "client_cpu_s": run.client_cpu,
        "service_cpu_s": service_cpu,
        "service_memory_mib": memory_mib,
    }


def keeps_up(run: Run, *, p99_ms: float) -> bool:
    """Whether the rate offered is carried: no error, and p99 within the bound."""
    good = answered(run.seen)
    p99 = percentiles([each.seconds * 1e3 for each in good])["p99"]
    return len(good) == len(run.seen) and (p99 is None or p99 <= p99_ms)


def read_objectives(path: Path = OBJECTIVES) -> dict[str, Any]:
    with path.open("rb") as file:
        return tomllib.load(file)


def missed(report: Mapping[str, Any], objectives: Mapping[str, Any]) -> list[str]:
    """One line for each objective that the report does not meet."""
    lines = []
    for name, wanted in objectives.get("scenario", {}).items():
        found = report["scenarios"].get(name)
        if found is None:
            continue
        share = sum(found["errors"].values()) / max(1, found["count"])
        if found["count"] == sum(found["errors"].values()):
            lines.append(f"{name}: nothing was answered")
        if share > wanted.get("error_share", 1.0):
            lines.append(f"{name}: {share:.1%} errors, at most {wanted['error_share']:.1%}")
        p99 = found["ms"]["p99"]
        if p99 is not None and p99 > wanted.get("p99_ms", math.inf):
            lines.append(f"{name}: p99 {p99:.0f} ms, at most {wanted['p99_ms']:.0f}")
        for group in found["routes"]:
            p50, p99 = group["ms"]["p50"], group["ms"]["p99"]
            if group["count"] >= ENOUGH and p50 and p99 > wanted.get("p99_over_p50", math.inf) * p50:
                lines.append(
                    f"{name}: {group['route']} {group['picture']}".rstrip()
                    + f": p99 is {p99 / p50:.1f} × p50, at most {wanted['p99_over_p50']:g}"
                )
    share, most = report["client_cpu_share"], objectives.get("client", {}).get("cpu_share", math.inf)
    if share is not None and share > most:
        lines.append(f"client: {share:.1%} of the service's CPU, at most {most:.0%}")
    return lines
