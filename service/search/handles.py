"""Handles: a picture that was searched with can be asked about again, without its bytes, for a while.

They live in this process, bounded in number, bytes and time: the oldest go first. A crop that was embedded already
costs no embedding.
"""

from __future__ import annotations

import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from service.embedding.pipeline import Crop, Embedded
from service.errors import QueryExpired

MAX_BYTES = 64 * 2**20  # of all uploads that are kept, and their vectors
SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Kept:
    """data: the upload; sha256: its own. embedded: what `crop` of it became under the model `fingerprint`."""

    data: bytes
    sha256: str
    crop: Crop | None
    fingerprint: str
    embedded: Embedded
    until: float

    @property
    def nbytes(self) -> int:
        return len(self.data) + self.embedded.vector.nbytes


class Handles:
    """Lives on the event loop. clock: seconds, monotonic."""

    def __init__(self, *, max_bytes: int = MAX_BYTES, clock: Callable[[], float] = time.monotonic) -> None:
        self._max_bytes = max_bytes
        self._clock = clock
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0

    def keep(self, data: bytes, sha256: str, crop: Crop | None, fingerprint: str, embedded: Embedded) -> str | None:
        """The new handle; None for an upload that alone would take the room of all."""
        kept = Kept(data, sha256, crop, fingerprint, embedded, self._clock() + SECONDS)
        if kept.nbytes > self._max_bytes // 2:
            return None
        id = secrets.token_urlsafe(18)
        self._kept[id] = kept
        self._bytes += kept.nbytes
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._kept)))
        return id

    def get(self, id: str) -> Kept:
        """Raises QueryExpired."""
        now = self._clock()
        while self._kept and next(iter(self._kept.values())).until <= now:
            self._drop(next(iter(self._kept)))
        kept = self._kept.get(id)
        if kept is None:
            raise QueryExpired(SECONDS)
        return kept

    def __len__(self) -> int:
        return len(self._kept)

    @property
    def nbytes(self) -> int:
        return self._bytes

    def _drop(self, id: str) -> None:
        self._bytes -= self._kept.pop(id).nbytes
