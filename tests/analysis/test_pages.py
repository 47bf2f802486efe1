"""Pages of lists: all of them once, whatever was removed since."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from index.analysis import kept
from index.analysis.neighbours import find
from index.open import open_catalogue
from service.analysis.neighbours import later_page, page
from tests.harness.catalogues import MODEL, entry


def test_pages_hold_every_item_once_and_nothing_that_is_gone(tmp_path: Path) -> None:
    with contextlib.closing(open_catalogue(tmp_path)) as catalogue:
        collection, _ = catalogue.create("default", **MODEL)
        collection.upsert([entry(f"i{n}", n) for n in range(250)], fingerprint="test-1")
        found = find(collection, 100)
        kept.write(kept.path_of(collection.cache, 100), found.neighbours)
        shown: list[dict[str, Any]] = []
        one = page(found, 0)
        while one["next_cursor"] is not None:
            shown += one["items"]
            collection.delete(["i240"])
            one = later_page(collection, 100, one["next_cursor"])
        shown += one["items"]
        assert [each["id"] for each in shown] == [f"i{n}" for n in range(250) if n != 240]
        later = [other["id"] for each in shown[100:] for other in each["neighbors"]]
        assert "i240" not in later and all(len(each["neighbors"]) >= 99 for each in shown)
