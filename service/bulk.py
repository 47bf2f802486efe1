"""One bad picture never stops the rest, what is done stays done, and what stands already is not embedded again.

The engine reads and judges; a `Target` knows where pictures go: into a catalogue this process owns, or to a server.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import os
import time
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from service.folder import Bad, Source


@dataclass(frozen=True, slots=True)
class Known:
    """What the collection holds under an id. sha256: None for an imported vector."""

    sha256: str | None
    metadata: Mapping[str, Any]


class Action(enum.Enum):
    """What an import does about one picture."""

    KEEP = "keep"
    DESCRIBE = "describe"  # same bytes, other metadata: no embedding
    EMBED = "embed"


class PictureRefused(Exception):
    """This one picture cannot be imported; the message is the reason, in one line."""


class Target(Protocol):
    """Where pictures go. `put` raises PictureRefused for the picture's own fault; anything else ends the import."""

    @property
    def lanes(self) -> int:
        """Pictures that may be under way at once."""
        ...

    @property
    def max_bytes(self) -> int: ...

    async def known(self) -> dict[str, Known]:
        """What stands in the collection, by id."""
        ...

    async def put(self, id: str, data: bytes, metadata: Mapping[str, Any]) -> None: ...

    async def describe(self, id: str, metadata: Mapping[str, Any]) -> None: ...

    async def finish(self) -> None:
        """Returns once everything put so far is on disk."""
        ...


@dataclass(slots=True)
class Tally:
    """An import as it goes. seconds: since it began."""

    total: int
    created: int = 0
    replaced: int = 0
    unchanged: int = 0
    bad: list[Bad] = field(default_factory=list)
    seconds: float = 0.0
    interrupted: bool = False

    @property
    def done(self) -> int:
        """Pictures written."""
        return self.created + self.replaced

    @property
    def handled(self) -> int:
        return self.done + self.unchanged + len(self.bad)

    @property
    def images_per_second(self) -> float:
        """Pictures written, by the whole time."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """The summary a program reads."""
        return {
            "total": self.total,
            "done": self.done,
            "created": self.created,
            "replaced": self.replaced,
            "unchanged": self.unchanged,
            "failed": len(self.bad),
            "seconds": round(self.seconds, 3),
            "images_per_second": round(self.images_per_second, 2),
            "interrupted": self.interrupted,
            "errors": [{"path": bad.path, "reason": bad.reason} for bad in self.bad],
        }


def judge(known: Known | None, sha256: str, metadata: Mapping[str, Any]) -> Action:
    """What to do about a picture. Keys that a person added to an item's metadata are no reason to write it again."""
    if known is None or known.sha256 != sha256:
        return Action.EMBED
    same = all(key in known.metadata and known.metadata[key] == value for key, value in metadata.items())
    return Action.KEEP if same else Action.DESCRIBE


def joined(known: Known | None, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a picture whose bytes changed: what a person added stays, what the import knows is brought up."""
    return {**(known.metadata if known else {}), **metadata}


async def run(
    sources: Sequence[Source],
    target: Target,
    *,
    bad: Sequence[Bad] = (),
    on_progress: Callable[[Tally], None] = lambda tally: None,
    stop: asyncio.Event | None = None,
) -> Tally:
    """Imports `sources`. bad: files already known to fail, told with the rest; on_progress: called after every picture.

    Setting `stop` ends it early: pictures under way finish, the tally says `interrupted`. Raises what `target` raises.
    """
    began = time.monotonic()
    tally = Tally(len(sources) + len(bad), bad=list(bad))
    known = await target.known()
    waiting = iter(sources)

    async def lane() -> None:
        for source in _until(stop, waiting):
            try:
                await _one(source, target, known.get(source.id), tally)
            except PictureRefused as error:
                tally.bad.append(Bad(source.metadata.get("path", source.id), str(error)))
            tally.seconds = time.monotonic() - began
            on_progress(tally)

    try:
        await _together([lane() for _ in range(min(target.lanes, len(sources)))])
    finally:
        await target.finish()
        tally.bad.sort(key=lambda row: row.path)
        tally.seconds = time.monotonic() - began
        tally.interrupted = tally.handled < tally.total
    return tally


async def _one(source: Source, target: Target, known: Known | None, tally: Tally) -> None:
    data, sha256 = await asyncio.to_thread(_read, source.file, target.max_bytes)
    action = judge(known, sha256, source.metadata)
    if action is Action.KEEP:
        tally.unchanged += 1
        return
    if action is Action.DESCRIBE:
        await target.describe(source.id, source.metadata)
    else:
        await target.put(source.id, data, joined(known, source.metadata))
    if known is None:
        tally.created += 1
    else:
        tally.replaced += 1


def _read(file: str, max_bytes: int) -> tuple[bytes, str]:
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 (a Path per picture buys nothing)
            if os.fstat(opened.fileno()).st_size > max_bytes:
                raise PictureRefused(f"larger than {max_bytes / 2**20:.3g} MiB (LOOKALIKE_MAX_UPLOAD_BYTES)")
            data = opened.read()
    except OSError as error:
        raise PictureRefused(f"cannot be read: {error.strerror or error}") from None
    return data, hashlib.sha256(data).hexdigest()


def _until(stop: asyncio.Event | None, waiting: Iterator[Source]) -> Iterator[Source]:
    while stop is None or not stop.is_set():
        source = next(waiting, None)
        if source is None:
            return
        yield source


async def _together(lanes: Sequence[Coroutine[Any, Any, None]]) -> None:
    """All of them, or the first one's error once the others have ended."""
    try:
        async with asyncio.TaskGroup() as group:
            for lane in lanes:
                group.create_task(lane)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None
