"""Lists of neighbours as the bytes of a file: .jsonl with a line an item, .csv and .parquet with a row a pair."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Self

import orjson

from service.errors import InvalidRequest
from service.exports.formats import Drain

FORMATS = ("jsonl", "csv", "parquet")
COLUMNS = ("id", "rank", "neighbor", "score")


def pairs_format(file: Path) -> str:
    """By the end of a file's name. Raises InvalidRequest."""
    for format in FORMATS:
        if file.name.lower().endswith(f".{format}"):
            return format
    raise InvalidRequest("out", f"the name must end in one of {', '.join('.' + each for each in FORMATS)}")


class Pairs:
    """One file on its way; use it in a `with`. rest: bytes that follow the last ones, after it."""

    def __init__(self, format: str) -> None:
        """Raises InvalidRequest where pyarrow is needed and not installed."""
        self.rest = b""
        self._format = format
        self._drain = Drain()
        self._header = format == "csv"
        if format == "parquet":
            try:
                import pyarrow as arrow
                import pyarrow.parquet as parquet
            except ImportError:
                raise InvalidRequest("out", "parquet files need pyarrow: pip install 'lookalike[parquet]'") from None
            kinds = (arrow.string(), arrow.int32(), arrow.string(), arrow.float32())
            self._schema = arrow.schema(list(zip(COLUMNS, kinds, strict=True)))
            self._writer = parquet.ParquetWriter(self._drain, self._schema)
            self._arrow = arrow

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._format == "parquet":
            self._writer.close()
        self.rest = self._drain.taken()

    def add(self, items: list[dict[str, Any]]) -> bytes:
        """The bytes of these items: `id` and `neighbors` of each, with `id` and `score`."""
        if self._format == "jsonl":
            return b"".join(orjson.dumps(item, option=orjson.OPT_APPEND_NEWLINE) for item in items)
        rows = [
            (item["id"], rank, near["id"], near["score"])
            for item in items
            for rank, near in enumerate(item["neighbors"], 1)
        ]
        if self._format == "csv":
            text = io.StringIO()
            writer = csv.writer(text, lineterminator="\n")
            writer.writerows([COLUMNS, *rows] if self._header else rows)
            self._header = False
            return text.getvalue().encode()
        columns = [[row[at] for row in rows] for at in range(len(COLUMNS))]
        self._writer.write_table(self._arrow.table(columns, schema=self._schema))
        return self._drain.taken()
