"""Everything the store refuses, as one tree: each message is one line that says what is wrong and what to do.

StoreError
├── NotFound
│   ├── CollectionNotFound      no collection of that name
│   ├── ItemNotFound            no such item, thumbnail or original
│   │   └── ItemDamaged         its stored bytes do not match their checksum: it counts as gone until it is sent again
│   └── RecordNotFound          no such record
├── Refused                     the caller's input
│   ├── InvalidId               item id or collection name outside the allowed characters
│   ├── InvalidVector           wrong length, not finite, zero
│   ├── InvalidMetadata         not a JSON object
│   ├── InvalidCursor           not a cursor this store handed out
│   ├── InvalidRecall           a share of the nearest to be found outside the allowed range
│   ├── InvalidRecord           not a JSON object, too large, or a kind or name outside the limits
│   └── FilterError             `path` says where in the filter, `message` what
├── RecordConflict              the record has another version than the one expected
├── ModelMismatch               vectors of another model than the collection's
├── IndexNotReady               the search index is being rebuilt; try again
├── StorageError                the disk does not take the write; nothing of it was kept, reads go on
│   ├── StorageFull             no space, or a quota or size limit is reached
│   ├── StorageReadOnly         the file system is mounted read-only
│   └── StorageFailed           the device reports an error; after a failed flush no write is taken until a restart
├── DirectoryLocked             another process owns the data directory (`pid` where known)
├── StoreCorrupt                stored bytes do not match their checksum, or the database is damaged
├── CacheUnusable               a cache file beside the store is no use; it is rebuilt from the store
├── SnapshotExists          a snapshot or restore would replace something
├── SchemaTooNew                written by a newer version
└── StoreClosed                 used after close
"""

from __future__ import annotations


class StoreError(Exception):
    """Root of everything `index` raises on purpose."""


class NotFound(StoreError):
    """What was asked for is not there."""


class CollectionNotFound(NotFound):
    """No collection of that name."""


class ItemNotFound(NotFound):
    """No such item, or the item has no thumbnail, or no original is kept."""


class ItemDamaged(ItemNotFound):
    """What is stored of the item does not match its checksum. It is left out until it is uploaded again or deleted."""


class RecordNotFound(NotFound):
    """No record of that kind and name."""


class Refused(StoreError):
    """The caller's input does not fit; nothing was changed."""


class InvalidId(Refused):
    """An item id or a collection name breaks the rules."""


class InvalidVector(Refused):
    """A vector of the wrong length, not finite, or zero."""


class InvalidMetadata(Refused):
    """Metadata that is no JSON object."""


class InvalidCursor(Refused):
    """A cursor this store did not hand out."""


class InvalidRecall(Refused):
    """The recall asked for is outside the allowed range."""


class InvalidRecord(Refused):
    """A record that is no JSON object or too large, or a kind or name outside the limits."""


class FilterError(Refused):
    """A filter outside the grammar. path: where, e.g. `must[0].range.gte`; message: what is wrong there."""

    def __init__(self, path: str, message: str) -> None:
        super().__init__(f"filter{'.' if path and not path.startswith('[') else ''}{path}: {message}")
        self.path = path
        self.message = message


class RecordConflict(StoreError):
    """The record has another version than the one expected: somebody wrote it meanwhile. Read it, then try again."""


class ModelMismatch(StoreError):
    """The collection was built with another model; its vectors are never mixed."""


class IndexNotReady(StoreError):
    """The search index is loading or being rebuilt from the store.

    Reads by id go on; searching is possible again later.
    """


class StorageError(StoreError):
    """The disk does not take the write: nothing of it was kept, reads go on."""


class StorageFull(StorageError):
    """No space left on the device, or a quota or a limit of a file's size is reached."""


class StorageReadOnly(StorageError):
    """The file system is mounted read-only."""


class StorageFailed(StorageError):
    """The device reports an input or output error. After a failed flush no write is taken until a restart."""


class DirectoryLocked(StoreError):
    """Another process owns the data directory. pid: which one, None where unknown."""

    def __init__(self, message: str, pid: int | None = None) -> None:
        super().__init__(message)
        self.pid = pid


class StoreCorrupt(StoreError):
    """Stored bytes do not match their checksum, or the database itself is damaged."""


class SchemaTooNew(StoreError):
    """The data directory was written by a newer version of Lookalike."""


class StoreClosed(StoreError):
    """The catalogue is closed or closing."""


class SnapshotExists(StoreError):
    """The file or catalogue to be written is there already, and nobody said that it may be replaced."""


class CacheUnusable(StoreError):
    """A rebuildable cache file is damaged, torn, older or foreign: it is rebuilt from the store."""
