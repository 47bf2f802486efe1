"""Whether the sample is in a collection, is wanted there, or gives way to pictures of a person's own."""

from __future__ import annotations

from index.types import Catalogue, Collection
from service.embedding.loaded import Model
from service.runtime import DEFAULT
from service.sample.things import are_sample, catalogue


def is_wanted(collection: Collection) -> bool:
    """Whether a collection is empty, or holds nothing but a part of the sample: anything else is a person's own."""
    return collection.count() < len(catalogue()) and _only_sample(collection)


def give_way(store: Catalogue, name: str, model: Model) -> bool:
    """Empties `default` where it holds nothing but the sample, whose threshold suits no photographs; whether it did.

    model: the one `default` starts over with. Raises CollectionNotFound.
    """
    if name != DEFAULT:
        return False
    collection = store.get(name)
    if not 0 < collection.count() <= len(catalogue()) or not _only_sample(collection):
        return False
    store.clear(name, **model)
    return True


def _only_sample(collection: Collection) -> bool:
    return are_sample((item.id, item.metadata) for item in collection.scan(limit=len(catalogue())).items)
