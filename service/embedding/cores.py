"""How many CPU cores this process may use: the cgroup's quota and the affinity mask, not the host's count."""

from __future__ import annotations

import math
import os
from pathlib import Path

from service import cgroups


def quota_cores(root: Path = cgroups.ROOT, membership: Path = cgroups.MEMBERSHIP) -> float | None:
    """The smallest CPU quota on the way from this process' cgroup to the root, in cores; None without one.

    Reads version 2 (`cpu.max`: "quota period" or "max period") and version 1 (`cpu.cfs_quota_us`, −1: none).
    """
    quotas = (_quota_of(folder) for folder in cgroups.folders("cpu", root, membership))
    found = [cores for cores in quotas if cores is not None]
    return min(found, default=None)


def _quota_of(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        except OSError:
            return None
    if quota in ("max", "-1"):
        return None
    try:
        return int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None


def usable_cores() -> int:
    """At least 1. A quota of 1.5 cores counts as 2: a half idle thread costs less than a half used core."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = quota_cores()
    return max(1, allowed if quota is None else min(allowed, math.ceil(quota)))
