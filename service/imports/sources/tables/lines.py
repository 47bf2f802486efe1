"""The lines of a table's text: never more of one row in memory than a limit, wrong bytes told from right ones."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator

from service.imports.sources.rows import Fault

LONGEST_ROW = 2**26  # characters; a picture as a data URI takes a few million
WRONG_BYTES = Fault("is no text in UTF-8: save the file as UTF-8")
# What the error handler `surrogateescape` makes of bytes that are no UTF-8; no text has these.
_WRONG = re.compile(r"[\udc80-\udcff]")


class Lines:
    """Lines, and what is known of the row that they are part of; `begin` starts the next one.

    wrong: a byte of the row is no text; ended: a line was asked for behind the last one.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._text = text
        self._length = 0
        self.wrong = False
        self.ended = False

    def begin(self) -> None:
        self._length = 0
        self.wrong = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        """Raises csv.Error for a row that is too long."""
        line = self._text.readline(LONGEST_ROW + 1 - self._length)
        if not line:
            self.ended = True
            raise StopIteration
        self._length += len(line)
        if self._length > LONGEST_ROW:
            raise csv.Error(f"a row has more than {LONGEST_ROW:,} characters")
        if not line.isascii() and _WRONG.search(line):
            self.wrong = True
        return line
