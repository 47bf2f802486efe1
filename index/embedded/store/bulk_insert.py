"""Ready vectors in bulk: what is new goes in through two statements per batch, what exists takes the ordinary way.

Encoding happens in the caller's thread while the writer works on the batch before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import apsw
import numpy as np

from index.embedded.store import collections, items, writes
from index.embedded.store.collections import Head
from index.embedded.store.encoding import Stored, check_id, checksum, encode_metadata, stored_type, unit
from index.embedded.store.writes import INSERT_ITEM, Change, Prepared, sealed_row
from index.errors import InvalidVector
from index.items import Imported, Item, Metadata, Vector


@dataclass(frozen=True, slots=True)
class Batch:
    """Encoded vectors (n, dim) with n ids that differ, their CRCs, and metadata as objects and as JSON texts."""

    ids: Sequence[str]
    data: Stored
    crcs: Sequence[int]
    metadata: Sequence[Metadata]
    texts: Sequence[str]

    @classmethod
    def encode(cls, ids: Sequence[str], vectors: Vector, metadata: Sequence[Metadata] | None, dim: int) -> Batch:
        """Of an id given twice the later one stays. Raises InvalidId, InvalidVector, InvalidMetadata."""
        if len(ids) != len(vectors) or (metadata is not None and len(metadata) != len(ids)):
            raise InvalidVector("ids, vectors and metadata must be equally many")
        last = {check_id(id): position for position, id in enumerate(ids)}
        data = unit(vectors, dim).astype(stored_type(dim))
        kept = range(len(ids)) if len(last) == len(ids) else sorted(last.values())
        if len(kept) < len(ids):
            data = np.ascontiguousarray(data[list(kept)])
        encoded = [encode_metadata({} if metadata is None else metadata[position]) for position in kept]
        return cls(
            [ids[position] for position in kept],
            data,
            [checksum(row) for row in data],
            [plain for plain, _ in encoded],
            [text for _, text in encoded],
        )

    def __len__(self) -> int:
        return len(self.ids)

    def prepared(self, position: int) -> Prepared:
        """One row, for the ordinary way."""
        i = position
        return Prepared(self.ids[i], self.data[i], self.crcs[i], self.metadata[i], self.texts[i], None, None)

    def part(self, positions: Sequence[int]) -> Batch:
        """These rows alone."""
        return Batch(
            [self.ids[i] for i in positions],
            np.ascontiguousarray(self.data[positions]),
            [self.crcs[i] for i in positions],
            [self.metadata[i] for i in positions],
            [self.texts[i] for i in positions],
        )


def insert(connection: apsw.Connection, target: Head, batch: Batch, now: float) -> tuple[list[Change], Imported]:
    """One transaction's worth. Raises ModelMismatch where the collection was bound to another model meanwhile."""
    known = items.keys_by_id(connection, target.id, batch.ids)
    changes = []
    imported = Imported(0, 0, 0)
    if known:
        old = [position for position, id in enumerate(batch.ids) if id in known]
        prepared = [batch.prepared(position) for position in old]
        change, written = writes.put(connection, target, prepared, now)
        changes.append(change)
        replaced = sum(one.changed for one in written)
        imported = Imported(0, replaced, len(written) - replaced)
        fresh = [position for position, id in enumerate(batch.ids) if id not in known]
        batch = batch.part(fresh)
    if len(batch):
        changes.append(_insert_new(connection, target, batch, now))
        imported = Imported(len(batch), imported.replaced, imported.unchanged)
    return changes, imported


def _insert_new(connection: apsw.Connection, target: Head, batch: Batch, now: float) -> Change:
    target = collections.current(connection, target)
    first, seq = target.next_key, target.seq + 1
    vid = collections.vid_of(target.id, first)
    each = batch.data.shape[1] * batch.data.itemsize + 200
    connection.executemany(
        INSERT_ITEM,
        (
            sealed_row(vid + n, Item(id, metadata, None, now, now), text, each + len(text), seq, None)
            for n, (id, metadata, text) in enumerate(zip(batch.ids, batch.metadata, batch.texts, strict=True))
        ),
    )
    rows = batch.data.view(np.uint8)
    connection.executemany(
        "INSERT INTO vectors (vid, crc, data) VALUES (?, ?, ?)",
        ((vid + n, crc, row) for n, (crc, row) in enumerate(zip(batch.crcs, rows, strict=True))),
    )
    size = each * len(batch) + sum(map(len, batch.texts))
    count = target.count + len(batch)
    change = Change(target.id, seq=seq)
    change.added = list(range(first, first + len(batch)))
    change.vectors = batch.data
    change.ids = list(batch.ids)
    change.metadata = dict(zip(change.added, batch.metadata, strict=True))
    collections.finish(
        connection, target.id, seq=seq, next_key=first + len(batch), count=count, size=target.bytes + size
    )
    return change
