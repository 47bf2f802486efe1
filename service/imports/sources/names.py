"""Names of files: the id that a path gets, and the text that a person reads.

The same path has the same id on every run, whatever other files there are.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata

MAX_ID = 128
_FOREIGN = re.compile(r"[^A-Za-z0-9._:@-]")


def id_of(path: str) -> str:
    """The id of a file by its path below the root: without extension, `/` → `:`, other foreign characters → `_`.

    An id has 1–128 characters; of a longer one the end is replaced by a hash of the whole path, so it stays its own.
    """
    whole = unicodedata.normalize("NFC", path)  # macOS spells é in two characters, Linux in one: one id for both
    stem, _ = os.path.splitext(whole)  # noqa: PTH122 (pathlib would swallow "./" and "//")
    id = _FOREIGN.sub("_", stem.replace("/", ":"))
    if len(id) > MAX_ID:
        digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:16]
        id = f"{id[: MAX_ID - 17]}-{digest}"
    return "_" * max(1, len(id)) if id in ("", ".", "..") else id


def readable(path: str) -> str:
    """A path as text that JSON can carry: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def one_line(text: str) -> str:
    """Text with its line breaks and control characters spelt out."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
