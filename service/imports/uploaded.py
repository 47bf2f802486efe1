"""The name of an uploaded file: as it was sent, as far as that may be a name here, and with a suffix for its kind.

The kind is what the name says; where that says nothing, what the first bytes say.
"""

from __future__ import annotations

import re

from service.imports.sources.opening import SUFFIXES
from service.imports.sources.source import SourceError

# Bytes that `stored_name` looks at.
HEAD = 512
LONGEST = 60  # characters, of four bytes each at most: a name of a file may have 255
_FOREIGN = re.compile(r"[^\w.() +@-]")
_MAGIC = (
    (b"PK\x03\x04", ".zip"),
    (b"PK\x05\x06", ".zip"),  # an empty one
    (b"\x1f\x8b", ".tar.gz"),
    (b"BZh", ".tar.bz2"),
    (b"\xfd7zXZ\x00", ".tar.xz"),
    (b"PAR1", ".parquet"),
    (b"\x93NUMPY", ".npy"),
)


def stored_name(sent: str, head: bytes) -> str:
    """What the file is called on this machine. sent: by its sender, with a folder or without; head: its first bytes.

    Raises SourceError for a kind that is not imported.
    """
    plain = _FOREIGN.sub("_", re.split(r"[/\\]", sent)[-1]).strip()
    suffix = next((each for each in sorted(SUFFIXES, key=len, reverse=True) if plain.lower().endswith(each)), "")
    stem = plain[: len(plain) - len(suffix)] if suffix else plain
    suffix = suffix or _kind(head)
    return (stem.strip(" .")[: LONGEST - len(suffix)] or "upload") + suffix


def _kind(head: bytes) -> str:
    for magic, suffix in _MAGIC:
        if head.startswith(magic):
            return suffix
    if head[257:262] == b"ustar":
        return ".tar"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if b"\0" in head or not text:
        raise SourceError(f"The file is of no kind that is imported; name it with one of {', '.join(SUFFIXES)}")
    if text.startswith(b"<") and ".xml" in SUFFIXES:
        return ".xml"
    return ".jsonl" if text.startswith(b"{") else ".csv"
