"""A shop's product feed as a source: Shopify's and Google Merchant's, recognised by the names of their columns.

Every picture of a product is an item: `{id}`, `{id}:2`, `{id}:3` …, which share their metadata and `product_id`. Fields
keep the names that the two document, in lower case with `_`; a price becomes a number and its `currency`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import IO, Any

from index.limits import ID
from service.imports.sources.feeds import feed_xml
from service.imports.sources.rows import Fault, described, refused
from service.imports.sources.source import Bad, Source, Unreadable
from service.imports.sources.tables.image_cell import Resolve, pictured, unread
from service.imports.sources.tables.table import Table, open_table
from service.imports.sources.tables.text_rows import NotPictures, cells

SHOPIFY, GOOGLE = ("handle", "image_src"), ("id", "image_link")
# A row of a feed: where it is, and its fields, each with what it is given once or several times.
Row = tuple[int, dict[str, list[str]] | Fault]

_PRICES = frozenset(("price", "sale_price", "variant_price", "variant_compare_at_price", "cost_per_item"))
_NUMBERS = frozenset(("variant_grams", "variant_inventory_qty"))
_FLAGS = {"true": True, "yes": True, "false": False, "no": False}
_FLAGGED = frozenset(("published", "gift_card", "variant_requires_shipping", "variant_taxable", "adult", "is_bundle"))
_LISTS = frozenset(("tags",))
_PRICE = re.compile(r"(?:([A-Z]{3})\s*)?(-?[0-9]+(?:\.[0-9]+)?)(?:\s*([A-Z]{3}))?")
_VARIANT = re.compile(r"variant_|option[0-9]_value|cost_per_item")
# Of one picture, not of its product.
_OWN = frozenset(("image_src", "image_position", "image_alt_text", "variant_image"))


def normal(name: str) -> str:
    """A column's name as it is looked for: without Google's `g:`, in lower case, `_` for the rest."""
    return re.sub(r"[^0-9a-z]+", "_", re.sub(r"^g:", "", name.strip().lower())).strip("_")


@dataclass(frozen=True, slots=True)
class FeedPictures:
    """The pictures of a feed. rows: once through; unit: what a row is called."""

    name: str
    shopify: bool
    rows: Callable[[], Iterable[Row]]
    unit: str
    resolve: Resolve
    prefix: str
    count: int
    bad: list[Bad]
    ignored: int
    skipped: int
    close: Callable[[], None]

    def sources(self) -> Iterator[Source]:
        grouped = groupby(self.rows(), _handle) if self.shopify else ((None, [row]) for row in self.rows())
        for _, rows in grouped:
            yield from self._product(list(rows))

    def _product(self, rows: list[Row]) -> Iterator[Source]:
        line, first = rows[0]
        where = f"{self.name} {self.unit} {line}"
        if isinstance(first, Fault):
            yield replace(refused(first, where), row=line)
            return
        told = [(line, row) for line, row in rows if not isinstance(row, Fault)]
        product = _one(first, "handle" if self.shopify else "id")
        if not product:
            yield replace(refused(Fault("has no id", "invalid-id"), where), row=line)
            return
        images = _of_shopify(told) if self.shopify else _of_google(line, first)
        id = _id(f"{self.prefix}:{product}" if self.prefix else product)
        metadata = _shopify(told) if self.shopify else _metadata(first, ("id", "image_link", "additional_image_link"))
        found = described(id, {**metadata, "product_id": product})
        if isinstance(found, Fault) or not images:
            fault = found if isinstance(found, Fault) else Fault("has no image", "missing-image")
            yield replace(refused(fault, where, id), row=line)
            return
        for number, (line, image) in enumerate(images, 1):
            where, own = f"{self.name} {self.unit} {line}", id if number == 1 else f"{id}:{number}"
            try:
                source = pictured(Source(own, found.metadata, unread, where), image, self.resolve)
            except Unreadable as error:
                source = refused(Fault(str(error), error.slug), where, own)
            yield replace(source, row=line)


def open_list(
    name: str,
    open: Callable[[], IO[bytes]],
    resolve: Resolve,
    *,
    prefix: str = "",
    bad: list[Bad] | None = None,
    skipped: int = 0,
    close: Callable[[], None] = lambda: None,
) -> Table | FeedPictures:
    """A table of pictures or a feed, read once through to know that it is one and how many there are.

    Raises SourceError, of which NotPictures where it is neither.
    """
    if name.lower().endswith(feed_xml.SUFFIXES):
        return _opened(FeedPictures(
            name, False, lambda: _normal(feed_xml.rows(name, open)), "item", resolve, prefix, 0, bad or [], 0, skipped,
            close,
        ))  # fmt: skip
    try:
        return open_table(name, open, resolve, prefix=prefix, bad=bad, skipped=skipped, close=close)
    except NotPictures as error:
        header = frozenset(map(normal, error.header))
        shopify = header.issuperset(SHOPIFY)
        if not shopify and not header.issuperset(GOOGLE):
            raise
        return _opened(FeedPictures(
            name, shopify, lambda: _normal(cells(name, open)), "line", resolve, prefix, 0, bad or [], 0, skipped,
            close,
        ))  # fmt: skip


def _opened(feed: FeedPictures) -> FeedPictures:
    return replace(feed, count=sum(1 for _ in feed.sources()))


def _normal(rows: Iterable[tuple[int, Mapping[str, list[str]] | Fault]]) -> Iterator[Row]:
    for line, row in rows:
        if isinstance(row, Fault):
            yield line, row
            continue
        named: dict[str, list[str]] = {}
        for name, values in row.items():
            kept = [value.strip() for value in values if value.strip()]
            if kept and normal(name):
                named.setdefault(normal(name), []).extend(kept)
        yield line, named


def _handle(row: Row) -> object:
    return (row[0], True) if isinstance(row[1], Fault) else _one(row[1], "handle") or (row[0], False)


def _one(row: Mapping[str, list[str]], name: str) -> str:
    return row.get(name, [""])[0]


def _of_google(line: int, row: Mapping[str, list[str]]) -> list[tuple[int, str]]:
    more = [part for cell in row.get("additional_image_link", ()) for part in re.split(r"\s*,\s*(?=https?://)", cell)]
    return [(line, image) for image in dict.fromkeys([*row.get("image_link", ())[:1], *more])]


def _of_shopify(rows: list[tuple[int, dict[str, list[str]]]]) -> list[tuple[int, str]]:
    """In the order of `Image Position`, then those of variants; each once."""
    placed = [(_position(row), line, _one(row, "image_src")) for line, row in rows if "image_src" in row]
    images = [(line, image) for _, line, image in sorted(placed)]
    images += [(line, _one(row, "variant_image")) for line, row in rows if "variant_image" in row]
    first: dict[str, int] = {}
    for line, image in images:
        first.setdefault(image, line)
    return [(line, image) for image, line in first.items()]


def _position(row: Mapping[str, list[str]]) -> int:
    text = _one(row, "image_position")
    return int(text[:9]) if text.isascii() and text.isdecimal() else 10**9


def _shopify(rows: list[tuple[int, dict[str, list[str]]]]) -> dict[str, Any]:
    """Of the first row; further variants are in `variants`, each with its own fields."""
    metadata = _metadata(rows[0][1], ("handle", *_OWN))
    variants = [
        fields
        for _, row in rows
        if (fields := _metadata({name: each for name, each in row.items() if _VARIANT.match(name)}, _OWN))
        and any(name in fields for name in ("variant_sku", "variant_price", "option1_value"))
    ]
    return {**metadata, "variants": variants} if len(variants) > 1 else metadata


def _metadata(row: Mapping[str, list[str]], left_out: Iterable[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, values in row.items():
        if name in left_out:
            continue
        if name in _PRICES and (price := _PRICE.fullmatch(values[0])):
            found[name] = float(price[2])
            if currency := price[1] or price[3]:
                found["currency"] = currency
        elif name in _NUMBERS and re.fullmatch(r"-?[0-9]{1,15}(\.[0-9]{1,6})?", values[0]):
            found[name] = float(values[0]) if "." in values[0] else int(values[0])
        elif name in _FLAGGED and values[0].lower() in _FLAGS:
            found[name] = _FLAGS[values[0].lower()]
        elif name in _LISTS:
            found[name] = [part for value in values for each in value.split(",") if (part := each.strip())]
        else:
            found[name] = values if len(values) > 1 else values[0]
    return found


def _id(text: str) -> str:
    """The feed's own id; where an item may not have that one, it is told apart by 8 digits of its sha256."""
    if ID.fullmatch(text) and len(text) <= 120:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{re.sub(r'[^A-Za-z0-9_:@-]', '_', text)[:100]}-{digest}"
