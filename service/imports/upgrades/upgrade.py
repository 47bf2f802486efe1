"""An upgrade: a collection is embedded again under another model, beside itself, compared, and replaced at once.

Until everything is there the collection answers as before; afterwards what it was goes on under another name until it
is discarded. An upgrade that was cut off, or refused, goes on where it ended.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import asdict, dataclass, field
from typing import Any

from index.errors import CollectionNotFound, ItemNotFound, RecordNotFound, StoreCorrupt
from index.items import Entry, Item
from index.types import Catalogue, Collection
from models.errors import EmbeddingInvalid, ImageError
from service.embedding.loaded import LoadedModel, Model, built_model
from service.embedding.pipeline import Pipeline
from service.imports.rule import same_json
from service.imports.sources.source import Bad
from service.imports.upgrades.comparison import Comparison, compare, items
from service.settings import Settings
from service.threads import Threads

# The new collection while it is made, and the old one once it is replaced.
NEXT = "-next"
BEFORE = "-before"
# Items read, embedded and written together.
PAGE = 100
# Passes over a collection that is written to meanwhile; each is shorter than the one before it.
PASSES = 10
# Items without a picture that are named; all are counted.
NAMED = 1000
_MARK = ("upgrade", "of")  # kind and name of the record that says whose a collection is


class UpgradeRefused(Exception):
    """The collection cannot be upgraded. One line: why, and what to do."""


@dataclass(slots=True)
class Upgrade:
    """What an upgrade did.

    before, after: models. items: of the collection. embedded: pictures embedded by this run. missing: items that cannot
    be embedded again, the first thousand by name; `without` counts all. threshold: that the old one had by hand, which
    the new one has not. replaced: whether the collection has the new model now; kept: the old one's name then; reason:
    why not, else.
    """

    collection: str
    before: str
    after: str
    items: int = 0
    embedded: int = 0
    without: int = 0
    missing: list[Bad] = field(default_factory=list)
    compared: Comparison = field(default_factory=Comparison)
    threshold: float | None = None
    replaced: bool = False
    kept: str | None = None
    reason: str | None = None

    def as_json(self) -> dict[str, Any]:
        missing = [{"id": each.path, "reason": each.reason} for each in self.missing]
        return asdict(self) | {"missing": missing}


async def upgrade(
    catalogue: Catalogue,
    name: str,
    model: Model,
    *,
    pipeline: Pipeline,
    threads: Threads,
    label: str = "label",
    force: bool = False,
) -> Upgrade:
    """Upgrades a collection to `model`, which must be built.

    label: the metadata key by which two items belong together. force: replaces although items have no picture (they are
    left out) or the ranking is worse. Raises UpgradeRefused, CollectionNotFound, ModelMismatch, StorageFull.
    """
    old = catalogue.get(name)
    if old.fingerprint == model["fingerprint"]:
        raise UpgradeRefused(f"{name} has the model {model['model']} already")
    if name + BEFORE in catalogue.names():
        raise UpgradeRefused(
            f"{name + BEFORE} is there, from an earlier upgrade: discard it first with "
            f"`lookalike model upgrade {name} --discard`"
        )
    new = await threads.write(_prepared, catalogue, name, model)
    network = await pipeline.networks.of_collection(new)
    done = Upgrade(name, old.model, new.model)
    for _ in range(PASSES):
        sequence = await threads.read(lambda: old.sequence)
        await _copy(catalogue, old, new, network, pipeline, threads, done)
        if await threads.read(lambda: old.sequence) != sequence:
            continue
        done.compared = await threads.read(compare, old, new, label)
        done.threshold = old.score_threshold
        done.reason = None if force else _objection(done)
        if done.reason is not None:
            return done
        if await threads.write(_replace, catalogue, name, sequence):
            done.replaced, done.kept = True, name + BEFORE
            return done
    raise UpgradeRefused(f"{name} changes faster than it is copied: try again when less is written to it")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asks for: `model` and `precision` None for the service's own; see `upgrade` and `discard`."""

    collection: str
    model: str | None = None
    precision: str | None = None
    label: str = "label"
    force: bool = False
    discard: bool = False


async def asked(
    settings: Settings, catalogue: Catalogue, pipeline: Pipeline, threads: Threads, wish: Wish
) -> dict[str, Any]:
    """Carries a wish out; what came of it, ready for JSON. Raises as `upgrade`, and ArtefactError."""
    if wish.discard:
        return {"discarded": await threads.write(discard, catalogue, wish.collection)}
    model = await threads.read(built_model, settings, wish.model, wish.precision)
    done = await upgrade(
        catalogue, wish.collection, model, pipeline=pipeline, threads=threads, label=wish.label, force=wish.force
    )
    return done.as_json()


def discard(catalogue: Catalogue, name: str) -> list[str]:
    """Removes what an upgrade of `name` has left beside it; the names of what was removed.

    Raises UpgradeRefused where there is nothing.
    """
    gone: list[str] = []
    for each in (name + BEFORE, name + NEXT):
        with contextlib.suppress(CollectionNotFound, RecordNotFound):
            if catalogue.get(each).records.get(*_MARK).value.get("collection") == name:
                catalogue.drop(each)
                gone.append(each)
    if not gone:
        raise UpgradeRefused(f"no upgrade has left anything beside {name}")
    return gone


def _prepared(catalogue: Catalogue, name: str, model: Model) -> Collection:
    """The collection that the new vectors go to: a fresh one, or that of an earlier try with the same model."""
    new, created = catalogue.create(name + NEXT, **model)
    mark = {"collection": name}
    if created:
        new.records.put(*_MARK, mark)
        return new
    try:
        known = new.records.get(*_MARK).value == mark
    except RecordNotFound:
        known = new.count() == 0  # made by an upgrade that ended right there
    if not known:
        raise UpgradeRefused(f"there is a collection {name + NEXT} that no upgrade has made: rename or remove it")
    if new.fingerprint != model["fingerprint"]:
        catalogue.clear(name + NEXT, **model)
    new.records.put(*_MARK, mark)
    return new


def _replace(catalogue: Catalogue, name: str, sequence: int) -> bool:
    catalogue.get(name).records.put(*_MARK, {"collection": name})  # goes with it under its next name
    if not catalogue.replace(name, name + NEXT, kept=name + BEFORE, sequence=sequence):
        return False
    catalogue.get(name).records.delete(*_MARK)
    return True


async def _copy(
    catalogue: Catalogue,
    old: Collection,
    new: Collection,
    network: LoadedModel,
    pipeline: Pipeline,
    threads: Threads,
    done: Upgrade,
) -> None:
    """One pass: what `new` lacks is embedded, what `old` has not any more is removed."""
    done.items, done.without, done.missing = 0, 0, []
    cursor: str | None = None
    while True:
        page = await threads.read(old.scan, limit=PAGE, cursor=cursor)
        made = await asyncio.gather(
            *(_one(catalogue, old, new, item, network, pipeline, threads) for item in page.items)
        )
        entries = [each for each in made if isinstance(each, Entry)]
        bad = [each for each in made if isinstance(each, Bad)]
        if entries:
            await threads.write(new.upsert, entries, fingerprint=new.fingerprint)
        done.items += len(page.items)
        done.embedded += len(entries)
        done.without += len(bad)
        done.missing += bad[: NAMED - len(done.missing)]
        if (cursor := page.next_cursor) is None:
            break
    await threads.write(_prune, old, new)


async def _one(
    catalogue: Catalogue,
    old: Collection,
    new: Collection,
    item: Item,
    network: LoadedModel,
    pipeline: Pipeline,
    threads: Threads,
) -> Entry | Bad | None:
    """The item as it goes to `new`, None where that has it, or why it cannot."""
    if item.media is None:
        return Bad(item.id, "it was imported as a vector, so there is no picture to embed again", "missing-image")
    if await threads.write(_kept, new, item):
        return None
    try:
        data = await threads.read(catalogue.original, item.media.sha256)
        made = await pipeline.embed(data, network=network, bulk=True, sha256=item.media.sha256)
    except ItemNotFound:
        return Bad(item.id, "its upload was not kept (LOOKALIKE_KEEP_ORIGINALS)", "missing-image")
    except (StoreCorrupt, ImageError, EmbeddingInvalid) as error:
        return Bad(item.id, str(error))
    thumbnail = await threads.read(_thumbnail, old, item.id)
    return Entry(item.id, made.vector, item.metadata, item.media, thumbnail, data, created_at=item.created_at)


def _kept(new: Collection, item: Item) -> bool:
    """Whether `new` has the item's picture; its metadata follow here."""
    try:
        stored = new.get(item.id)
        if stored.media is None or item.media is None or stored.media.sha256 != item.media.sha256:
            return False
        if not same_json(stored.metadata, item.metadata):
            new.replace_metadata(item.id, item.metadata, sha256=item.media.sha256)
    except ItemNotFound:
        return False
    return True


def _thumbnail(old: Collection, id: str) -> bytes | None:
    try:
        return old.thumbnail(id)
    except ItemNotFound:
        return None


def _prune(old: Collection, new: Collection) -> None:
    """Removes from `new` what `old` has not."""
    gone = []
    for item in items(new):
        try:
            old.get(item.id)
        except ItemNotFound:
            gone.append(item.id)
    if gone:
        new.delete(gone)


def _objection(done: Upgrade) -> str | None:
    """Why the collection is not replaced; None where nothing speaks against it."""
    if done.without:
        return f"{done.without:,} of {done.items:,} items cannot be embedded again and would be left out (--force)"
    if done.compared.falls:
        before, after = done.compared.before, done.compared.after
        return f"the new model ranks worse by the labels: mAP {after:.3f}, before {before:.3f} (--force)"
    return None
