"""Sync: a collection becomes what a feed says, so items that the feed no longer has are removed.

Nothing is removed before the feed was read whole, nor on the word of one that is cut off, has rows that nobody can
read, or would take away more than somebody allows for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from index.items import Item
from index.types import Collection
from service.imports.sources.names import spellings
from service.imports.sources.source import Bad, Source

# Of the items there are, what a feed may remove where nobody says otherwise: a feed of another shop, or one that was
# cut short, removes more.
MOST_REMOVED = 0.5
# Ids that are named where something is refused, and that a dry run lists.
NAMED, LISTED = 5, 1000
# Ids of one removal.
BATCH = 1000
# Rows without an id that no item can have come from: they name none, one that no item may have, or a path that leads
# out of the archive.
HARMLESS = frozenset({"invalid-id", "unsafe-entry"})


class Feed:
    """What a feed has named so far: some 50 bytes for each id. `add` may be called from another thread."""

    def __init__(self) -> None:
        self._ids: set[int] = set()  # hashes of 64 bits: an id that meets another's is kept, and no harm done
        self._paths: set[int] = set()
        self.unreadable = 0
        self.cut = False

    def add(self, source: Source) -> None:
        """A row or file of the feed, whether or not its picture can be imported."""
        self.add_ids((source.id, source.earlier))
        if source.earlier:
            # An item may be stored under an id that this version would not give it; its path tells.
            self._paths.update(hash(each) for each in spellings(source.name))

    def add_ids(self, ids: Iterable[str]) -> None:
        self._ids.update(hash(id) for id in ids if id)

    def bad(self, row: Bad) -> None:
        """A row or file that was not imported."""
        if row.slug == "cut-off":
            self.cut = True
        elif row.id:
            self.add_ids((row.id,))
        elif row.slug not in HARMLESS:
            self.unreadable += 1

    def has(self, item: Item) -> bool:
        """Whether the feed has named this item."""
        return hash(item.id) in self._ids or (bool(self._paths) and hash(item.metadata.get("path")) in self._paths)

    @property
    def doubt(self) -> str | None:
        """Why nothing may be removed on this feed's word; None where it may."""
        if self.cut:
            return "the feed ends in the middle"
        if self.unreadable:
            rows = "1 row" if self.unreadable == 1 else f"{self.unreadable:,} rows"
            return f"{rows} of the feed cannot be read, and may be of any item"
        return None


def watched(sources: Iterable[Source], feed: Feed) -> Iterator[Source]:
    """The same sources; the feed learns of each."""
    for source in sources:
        feed.add(source)
        yield source


def gone(collection: Collection, feed: Feed, before: float, stopping: Callable[[], bool]) -> Iterator[str]:
    """Ids of the items that the feed has not named, in order. Blocks.

    before: UTC seconds; what was created since is somebody else's, and none of the feed's business.
    """
    cursor: str | None = None
    while not stopping():
        page = collection.scan(limit=BATCH, cursor=cursor)
        yield from (item.id for item in page.items if item.created_at < before and not feed.has(item))
        if (cursor := page.next_cursor) is None:
            return


def refusal(removed: int, count: int, most: float, examples: Iterable[str]) -> str | None:
    """Why a sync may not remove `removed` of `count` items; None where it may. most: the share that is allowed."""
    if not removed or removed <= most * count:
        return None
    shown = ", ".join(examples)
    return (
        f"The sync would remove {removed:,} of {count:,} items ({removed / count:.0%}: {shown}, …), more than "
        f"max_remove_share {most:g} allows"
    )
