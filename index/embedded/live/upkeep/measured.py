"""What was measured of a compressed index: how to search it, and the recall that this gives; kept beside its files.

A cache like all of them: where it cannot be read, it is measured again.
"""

from __future__ import annotations

import json
import os
import time
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

from index.embedded.ann.basis import Shape
from index.embedded.ann.files.plain import open_plain
from index.embedded.ann.measure import Found
from index.embedded.ann.recall import Recall
from index.embedded.ann.tuning import Tuning
from index.errors import CacheUnusable

_MOST = 4_096  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """found: what was measured; shape: of the index; target: recall that was asked for; built: the greatest for which
    another shape was looked for, 0 for none; at: UTC seconds.
    """

    found: Found
    shape: Shape
    target: float
    built: float
    at: float

    @classmethod
    def now(cls, found: Found, shape: Shape, target: float, built: float) -> Measured:
        """What was found just now."""
        return cls(found, shape, target, built, time.time())

    @property
    def recall(self) -> Recall:
        return self.found.recall

    @property
    def tuning(self) -> Tuning:
        return self.found.tuning

    @property
    def fitting(self) -> bool:
        """Whether another shape of the index is not known to serve better."""
        return self.found.cheap or self.target >= 1 or self.target <= self.built

    @property
    def reached(self) -> bool:
        """Whether the recall may well be what was asked for."""
        return self.tuning.exact or self.recall.high >= self.target

    def write(self, path: Path) -> None:
        """Replaces `path` in one step. Raises OSError."""
        body = json.dumps(asdict(self)).encode()
        temporary = path.with_name(path.name + ".new")
        with temporary.open("wb") as file:
            file.write(b"%08x" % zlib.crc32(body) + body)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)

    @classmethod
    def read(cls, path: Path) -> Measured:
        """What `write` wrote. Raises CacheUnusable."""
        try:
            with os.fdopen(open_plain(path, os.O_RDONLY), "rb") as file:
                content = file.read(_MOST)
            if content[:8] != b"%08x" % zlib.crc32(content[8:]):
                raise CacheUnusable(f"{path} is damaged; measuring again")
            values = json.loads(content[8:])
            found = values.pop("found")
            filtered = tuple((float(share), Recall(**recall)) for share, recall in found["filtered"])
            kept = Found(
                Tuning(**found["tuning"]),
                Recall(**found["recall"]),
                filtered,
                bool(found["cheap"]),
                float(found["seconds"]),
                float(found["building"]),
            )
            return cls(kept, Shape(**values.pop("shape")), **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheUnusable(f"{path} cannot be read; measuring again") from error
