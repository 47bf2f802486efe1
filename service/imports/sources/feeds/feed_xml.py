"""A feed in XML, RSS or Atom: its items one by one, each a bounded part of the file, and no entity is looked up."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from typing import IO
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from service.imports.sources.rows import Fault
from service.imports.sources.source import BROKEN, SourceError

SUFFIXES = (".xml", ".rss", ".atom", ".xml.gz", ".rss.gz", ".atom.gz")
LARGEST_ITEM = 4 * 2**20  # bytes of the file; a product of Google's has some thousand
_ITEMS = frozenset(("item", "entry", "product"))


class _Bounded:
    """A file of which no more than LARGEST_ITEM bytes are read between two items."""

    def __init__(self, file: IO[bytes] | gzip.GzipFile) -> None:
        self._file = file
        self.since = 0

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(min(size, 2**16) if size >= 0 else 2**16)
        self.since += len(data)
        if self.since > LARGEST_ITEM:
            raise ParseError(f"more than {LARGEST_ITEM:,} bytes without an item")
        return data


def rows(name: str, open: Callable[[], IO[bytes]]) -> Iterator[tuple[int, dict[str, list[str]] | Fault]]:
    """Number, from 1, and fields of every item. Raises SourceError where there is not even one."""
    number = 0
    stack: list[Element] = []
    try:
        with open() as opened:
            bounded = _Bounded(gzip.GzipFile(fileobj=opened) if name.lower().endswith(".gz") else opened)
            for event, element in iterparse(bounded, events=("start", "end"), forbid_dtd=True):
                if event == "start":
                    stack.append(element)
                    continue
                stack.pop()
                if _local(element.tag) in _ITEMS and (not stack or _local(stack[-1].tag) not in _ITEMS):
                    number, bounded.since = number + 1, 0
                    yield number, _fields(element)
                    for each in stack:
                        each.clear()
    except (ParseError, DefusedXmlException, ValueError, *BROKEN) as error:
        reason = " ".join(str(error).split())[:200]
        if isinstance(error, DefusedXmlException):
            reason = "it declares a document type or entities, which are not read"
        if not number:
            raise SourceError(f"{name} is no feed in XML: {reason}") from None
        yield number + 1, Fault(f"the feed cannot be read from here on: {reason}", "cut-off")
        return
    if not number:
        raise SourceError(f"{name} has no item of RSS and no entry of Atom")


def _local(tag: object) -> str:
    return tag.rpartition("}")[2].lower() if isinstance(tag, str) else ""


def _fields(item: Element) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for child in item:
        # Atom has a link as an attribute; what is nested (shipping) is left as its text.
        text = " ".join(" ".join(child.itertext()).split()) or child.get("href", "")
        google = isinstance(child.tag, str) and "base.google.com" in child.tag
        name = _local(child.tag)
        if google and name in ("id", "title", "link", "description"):
            found[name] = [text]  # before what RSS and Atom call so
        elif google or name not in found or name not in ("id", "title", "link", "description"):
            found.setdefault(name, []).append(text)
    return found
