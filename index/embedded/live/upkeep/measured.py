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

from index.embedded.ann.files.plain import open_plain
from index.embedded.ann.recall import Recall
from index.embedded.ann.tuning import Tried, Tuning
from index.errors import CacheUnusable

_MOST = 4_096  # bytes


@dataclass(frozen=True, slots=True)
class Measured:
    """target: recall that was asked for; at: UTC seconds."""

    recall: Recall
    tuning: Tuning
    target: float
    at: float

    @classmethod
    def now(cls, tried: Tried, target: float) -> Measured:
        """What was found just now."""
        return cls(tried.recall, tried.tuning, target, time.time())

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
            recall, tuning = Recall(**values.pop("recall")), Tuning(**values.pop("tuning"))
            return cls(recall, tuning, **values)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CacheUnusable(f"{path} cannot be read; measuring again") from error
