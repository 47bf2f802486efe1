"""The first key: read from a file that an operator mounts, or written into it, so that a container is never open."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from service.access.keys import Key, Keys, digest_of, new_text
from service.errors import InvalidRequest

MAX_BYTES = 1024


class FirstKeyError(Exception):
    """The file of the first key cannot be used. One line."""


def first_key(keys: Keys, file: Path, now: float) -> Key | None:
    """Makes the key in `file` an admin key, unless it is one; where there is neither file nor key, makes both.

    Returns the key that was made. A key that was revoked comes back while the file is there: take the file away too.
    Raises FirstKeyError.
    """
    try:
        text = file.read_bytes()[:MAX_BYTES].decode("ascii").strip()
    except FileNotFoundError:
        return _new(keys, file, now) if not keys.all() else None
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no ASCII text"
        raise FirstKeyError(f"{file}: {why}; LOOKALIKE_BOOTSTRAP_KEY_FILE names a file with one key") from None
    if any(key.digest == digest_of(text) for key in keys.all()):
        return None
    try:
        return keys.create("admin", now=now, name="bootstrap", text=text or " ")[0]
    except InvalidRequest as error:
        raise FirstKeyError(f"{file}: the key {error.message}") from None


def _new(keys: Keys, file: Path, now: float) -> Key:
    try:
        # The text first, which the next start finds if this one ends here: a key without its text opens nothing.
        text = new_text()
        handle, name = tempfile.mkstemp(prefix=".key-", dir=file.parent)
        with os.fdopen(handle, "w", encoding="ascii") as opened:
            opened.write(text + "\n")
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(file)
    except OSError as error:
        raise FirstKeyError(f"{file}: {error.strerror}; the first key cannot be written there") from error
    return keys.create("admin", now=now, name="bootstrap", text=text)[0]
