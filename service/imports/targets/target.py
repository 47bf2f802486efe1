"""Where an import's pictures go: a catalogue that this process owns, or the server that owns it. Same outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from service.fetching.fetcher import Validators
from service.imports.rule import Stored


class PictureRefused(Exception):
    """This one picture cannot be imported; the message is the reason, in one line, slug: one of `REASONS`."""

    def __init__(self, message: str, slug: str = "image-undecodable") -> None:
        super().__init__(message)
        self.slug = slug


class ItemGone(Exception):
    """The item to describe has been deleted or replaced meanwhile."""


class Target(Protocol):
    """`put` raises PictureRefused for the picture's own fault; any other exception ends the import."""

    @property
    def lanes(self) -> int:
        """Pictures that may be under way at once."""
        ...

    @property
    def max_bytes(self) -> int:
        """Of one picture."""
        ...

    @property
    def written(self) -> int:
        """Pictures put so far that are on disk."""
        ...

    async def known(self, ids: Sequence[str]) -> Mapping[str, Stored]:
        """What the collection holds under these ids, by id; those without an item are left out."""
        ...

    async def under(self, paths: Sequence[str]) -> Mapping[str, Stored]:
        """Items whose metadata has one of these as `path`, by id."""
        ...

    async def put(self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any]) -> None:
        """Embeds a picture and creates or replaces its item."""
        ...

    async def describe(
        self, id: str, data: bytes, sha256: str, metadata: Mapping[str, Any], *, keep: bool = True
    ) -> None:
        """Replaces the metadata of an item that has this picture. Raises ItemGone where it has not, or not any more.

        data: none where it was not fetched, being the stored picture. keep: what was added to the item since it was
        looked at stays.
        """
        ...

    async def versions(self, urls: Sequence[str]) -> Mapping[str, Validators]:
        """What servers said of the pictures at these addresses; those that nothing is known of are left out."""
        ...

    async def remember(self, url: str, said: Validators) -> None:
        """Keeps what a server said of a picture, until it says something else."""
        ...

    async def finish(self) -> None:
        """Returns once everything put so far is on disk."""
        ...
