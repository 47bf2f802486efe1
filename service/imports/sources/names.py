"""Names of files: the id that a path gets, and which names are an operating system's own.

The same path gets the same id on every run, whatever other files there are and however the system spells its accents.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from index.limits import MAX_ID
from service.text import readable

_FOREIGN = re.compile(r"[^A-Za-z0-9._:@-]")

# Folders and files that systems, disk stations and archivers keep beside pictures, in lower case. Names that begin
# with a dot (.Trash-1000, .thumbnails, .DS_Store, ._IMG_1.jpg) need no entry.
_SYSTEM = frozenset(
    (
        "@eadir", "@recycle", "@recently-snapshot", "#recycle", "#snapshot", "@tmp",
        "$recycle.bin", "system volume information", "found.000", "thumbs.db", "ehthumbs.db", "desktop.ini",
        "__macosx", "icon\r", "lost+found", "lost.dir",
    )
)  # fmt: skip


def is_system(name: str) -> bool:
    """Whether a file or folder of this name holds nothing that a person put there, or hides it."""
    return name.startswith(".") or name.lower() in _SYSTEM


def id_of(path: str, prefix: str = "") -> str:
    """The id of a file by its path below the root, with `/`, as the operating system names it.

    `prefix:`, then the path without extension, `/` → `:`, other foreign characters → `_`; where any was replaced, or
    the end had to be cut, the path's hash follows, so that every path keeps an id of its own. 1–128 characters.
    """
    whole = _whole(path)
    plain = f"{prefix}:{_stem(whole)}" if prefix else _stem(whole)
    id = _FOREIGN.sub("_", plain)
    if id != plain or id in ("", ".", ".."):
        return f"{id.replace('.', '_') if id in ('.', '..') else id[: MAX_ID - 9]}-{_digest(whole)[:8]}"
    return id if len(id) <= MAX_ID else f"{id[: MAX_ID - 17]}-{_digest(whole)[:16]}"


def earlier_id_of(path: str) -> str:
    """The id that version 0.1.0 gave a path: foreign characters became `_` without a hash."""
    whole = _whole(path)
    id = _FOREIGN.sub("_", _stem(whole))
    if len(id) > MAX_ID:
        id = f"{id[: MAX_ID - 17]}-{_digest(whole)[:16]}"
    return "_" * max(1, len(id)) if id in ("", ".", "..") else id


def root_of(folder: Path) -> str:
    """A root's name in metadata: the folder's own name and 8 hex digits of its absolute path's sha256.

    Metadata is for everybody who may search; the rest of the path is not.
    """
    whole = os.path.realpath(folder)
    return f"{readable(os.path.basename(whole)) or 'root'}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]}"  # noqa: PTH119


def other_id_of(path: str, prefix: str = "") -> str:
    """The id that an item of this file may have from version 0.1.0; empty where that is the same one."""
    earlier = earlier_id_of(path)
    return earlier if earlier != id_of(path) and not prefix else ""


def rivals(paths: Sequence[str], prefix: str = "") -> dict[str, frozenset[str]]:
    """Ids that several of these paths have, or had before the rule for ids changed, and the names of these files."""
    wanted = Counter(hash(id_of(path, prefix)) for path in paths)
    found: dict[str, set[str]] = {}
    for path in paths:
        id = id_of(path, prefix)
        earlier = other_id_of(path, prefix)
        if wanted[hash(id)] > 1:
            found.setdefault(id, set()).add(readable(path))
        if earlier and wanted[hash(earlier)]:
            found.setdefault(earlier, set()).add(readable(path))
    return {id: frozenset(names) for id, names in found.items()}


def spellings(path: str) -> set[str]:
    """A path as Linux and Windows spell its accents (NFC), as macOS does (NFD), and as it is."""
    return {path, unicodedata.normalize("NFC", path), unicodedata.normalize("NFD", path)}


def _whole(path: str) -> str:
    # By its bytes, so that an id does not depend on the encoding this process has for names of files.
    return unicodedata.normalize("NFC", os.fsencode(path).decode("utf-8", "surrogateescape"))


def _digest(whole: str) -> str:
    return hashlib.sha256(whole.encode("utf-8", "surrogateescape")).hexdigest()


def _stem(whole: str) -> str:
    return os.path.splitext(whole)[0].replace("/", ":")  # noqa: PTH122 (pathlib would swallow "./" and "//")
