"""Control groups: the folders in which the kernel says what this process may use, from its own up to the root."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")


def folders(controller: str, root: Path = ROOT, membership: Path = MEMBERSHIP) -> Iterator[Path]:
    """Folders of a controller, whether or not they are there; of version 2 and 1 alike. One may come twice."""
    groups: list[tuple[Path, str]] = []
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            groups.append((root, path))
        elif controller in controllers.split(","):
            groups.append((root / controller, path))
            groups.append((root / controllers, path))
    for base, path in [*groups, (root, "/"), (root / controller, "/")]:
        here = base / path.lstrip("/")
        for folder in [here, *here.parents]:
            if not folder.is_relative_to(base):
                break
            yield folder
