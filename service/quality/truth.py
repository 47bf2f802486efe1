"""What known pairs should find in a collection: whether it is there, and whether it was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from index.errors import InvalidId, ItemNotFound
from index.filters import values_at
from index.types import Collection
from service.quality.calibration import Stranger
from service.quality.pairs import Genuine, Pair, PairsRefused


def all_there(collection: Collection, pairs: Sequence[Pair], key: str) -> None:
    """Raises PairsRefused for an id or a label that no item has. key: where labels are in the metadata. Blocks."""
    for id in sorted({pair.id for pair in pairs if pair.id}):
        try:
            collection.get(id)
        except (ItemNotFound, InvalidId):
            raise PairsRefused(f"pairs: there is no item {id[:100]}") from None
    missing = {pair.label for pair in pairs if pair.label}
    cursor = None
    while missing:
        page = collection.scan(limit=1_000, cursor=cursor)
        for item in page.items:
            missing.difference_update(str(value) for value in values_at(item.metadata, key))
        if (cursor := page.next_cursor) is None:
            break
    if missing:
        raise PairsRefused(f"pairs: no item has {min(missing)[:100]} under the metadata key {key[:60]}")


def judged(collection: Collection, seen: Sequence[Stranger], pairs: Mapping[str, Pair], key: str) -> list[Genuine]:
    """Each picture that was searched with, by what its pair says. Blocks."""
    found: list[Genuine] = []
    for each in seen:
        pair = pairs[each.name]
        if pair.id:
            right = each.id == pair.id
        else:
            try:
                right = pair.label in map(str, values_at(collection.get(each.id).metadata, key))
            except ItemNotFound:  # deleted since
                right = False
        found.append(Genuine(each.name, each.score, right))
    return found
