"""Text: which encoding a file of text has, and strings that fit into JSON or into one line."""

from __future__ import annotations

import codecs
import os

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def encoding_of(head: bytes) -> str:
    """The encoding of a text file by its first four bytes: what its mark says, UTF-16 without one, else UTF-8."""
    for mark, name in _MARKS:
        if head.startswith(mark):
            return name
    # Text for programs begins with an ASCII character, of which UTF-16 makes a zero byte and another.
    if len(head) >= 2 and not head[0] and head[1]:
        return "utf-16-be"
    if len(head) >= 2 and head[0] and not head[1]:
        return "utf-16-le"
    return "utf-8"


def readable(path: str | os.PathLike[str]) -> str:
    """A path as text that JSON can carry: bytes that are no UTF-8 become U+FFFD."""
    return os.fsencode(path).decode("utf-8", "replace")


def one_line(text: str) -> str:
    """Text with its line breaks and control characters spelt out."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)
