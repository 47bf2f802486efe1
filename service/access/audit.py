"""Audit: who changed what and when, as JSON lines in files of bounded size beside the catalogue."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any

import orjson

FOLDER, FILE = "audit", "audit.jsonl"
MAX_BYTES, KEPT = 16 * 2**20, 9  # 160 MB in all, about a million lines

ERASED = "erased"  # in place of a key whose owner's traces were erased

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

    def forget(self, collection: str | None, ids: Sequence[str], key: str | None) -> None:
        """Takes names out of the lines that are kept: what was done, and when, stays.

        collection, ids: of these items, or of all items of the collection, the id goes; key: whoever used it is
        `erased`, without an address. Raises OSError.
        """
        if collection is None and key is None:
            return

        def changed(line: dict[str, Any]) -> dict[str, Any]:
            if key is not None and key in (line.get("who"), line.get("key")):
                who = ERASED if line.get("who") == key else line.get("who")
                line = {name: each for name, each in line.items() if name not in ("key", "from")} | {"who": who}
            if collection is not None and line.get("collection") == collection and (not ids or line.get("id") in ids):
                line.pop("id", None)
            return line

        if self._handler is not None:
            self._handler.acquire()
        try:
            self.close()  # opened again with the next line
            for file in _files(self._path.parent.parent):
                _rewrite(file, changed)
        finally:
            if self._handler is not None:
                self._handler.release()

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
    for file in _files(directory):
        yield from _read(file)


def _files(directory: Path) -> list[Path]:
    """Oldest first."""
    path = directory / FOLDER / FILE
    files = [path.with_name(f"{FILE}.{number}") for number in range(KEPT, 0, -1)] + [path]
    return [file for file in files if file.exists()]


def _read(file: Path) -> Iterator[dict[str, Any]]:
    with file.open("rb") as opened:
        for line in opened:
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError:
                continue
            if isinstance(value, dict):
                yield value


def _rewrite(file: Path, changed: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """In one step; a file without such lines stays as it is."""
    before = list(_read(file))
    after = [changed(dict(line)) for line in before]
    if after == before:
        return
    new = file.with_name(f".{file.name}.new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened:
        opened.writelines(orjson.dumps(line) + b"\n" for line in after)
        opened.flush()
        os.fsync(opened.fileno())
    new.replace(file)
