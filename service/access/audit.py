"""Audit: who changed what and when, as JSON lines in files of bounded size beside the catalogue."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

FOLDER, FILE = "audit", "audit.jsonl"
MAX_BYTES, KEPT = 16 * 2**20, 9  # 160 MB in all, about a million lines

log = logging.getLogger("lookalike.audit")


class Audit:
    """Appends lines. One that cannot be written is told in the log once, and ends no request."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FOLDER / FILE
        self._handler: _Lines | None = None

    def note(self, who: str, action: str, **about: Any) -> None:
        """who: a key's id, `anonymous` or `owner`; action: an operation, or `create_key`, `revoke_key`.

        about: what it was done to, how it ended. No file names, no keys.
        """
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + "Z"
        line = orjson.dumps({"at": at, "who": who, "action": action, **about}).decode()
        if self._handler is None:
            try:
                self._path.parent.mkdir(mode=0o700, exist_ok=True)
                self._handler = _Lines(self._path, maxBytes=MAX_BYTES, backupCount=KEPT, delay=True, encoding="utf-8")
            except OSError as error:
                log.warning("no audit line: %s: %s", error.filename, error.strerror)
                return
        self._handler.handle(logging.makeLogRecord({"msg": line}))

    def close(self) -> None:
        if self._handler is not None:
            self._handler.close()


class _Lines(RotatingFileHandler):
    failing = False

    def handleError(self, record: logging.LogRecord) -> None:
        if not self.failing:
            self.failing = True
            log.exception("the audit log %s cannot be written", self.baseFilename)


def lines(directory: Path) -> Iterator[dict[str, Any]]:
    """Every line that is kept, oldest first; one that a crash cut off is passed over. Raises OSError."""
    path = directory / FOLDER / FILE
    files = [path.with_name(f"{FILE}.{number}") for number in range(KEPT, 0, -1)] + [path]
    for file in files:
        if not file.exists():
            continue
        with file.open("rb") as opened:
            for line in opened:
                try:
                    value = orjson.loads(line)
                except orjson.JSONDecodeError:
                    continue
                if isinstance(value, dict):
                    yield value
