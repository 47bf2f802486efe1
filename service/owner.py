"""A data directory has one owner, whose note says how to reach it; it is only believed while the lock is held."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote_to_bytes

NOTE = "owner.json"


class OwnerError(Exception):
    """The data directory's owner cannot be reached. One line: who holds it, and what to do."""


class NoteMissing(OwnerError):
    """There is no note, or it cannot be read or trusted."""


@dataclass(frozen=True, slots=True)
class Note:
    """How to reach the server that owns a data directory.

    url: origin that answers on this machine, no trailing slash; pid: the server's process; token: admin bearer token.
    """

    url: str
    pid: int
    token: str = field(repr=False)


def new_token() -> str:
    """A fresh admin token: 256 random bits, URL-safe."""
    return secrets.token_urlsafe(32)


def local_url(host: str, port: int) -> str:
    """The origin under which this machine reaches a server listening on `host`; a wildcard becomes the loopback."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"http://{host or '127.0.0.1'}:{port}"
    if address.is_unspecified:
        address = ipaddress.ip_address("::1" if address.version == 6 else "127.0.0.1")
    return f"http://[{address}]:{port}" if address.version == 6 else f"http://{address}:{port}"


def path_text(path: Path) -> str:
    """A path as text for a request to the owner: names are bytes, which JSON does not carry."""
    return quote(os.fsencode(path))


def path_of(text: str) -> Path:
    """The path that `path_text` wrote."""
    return Path(os.fsdecode(unquote_to_bytes(text)))


def write_note(directory: Path, url: str, token: str) -> Note:
    """Leaves this process's note, readable by its user alone, whole or not at all. Raises OSError."""
    note = Note(url.rstrip("/"), os.getpid(), token)
    handle, name = tempfile.mkstemp(prefix=".owner-", dir=directory)  # mkstemp makes it 0600 from the start
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(asdict(note), file)
        Path(name).replace(directory / NOTE)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return note


def read_note(directory: Path) -> Note:
    """The note that is there, which may be one that a killed server left behind. Raises NoteMissing.

    A note that others could have written is not believed: it decides where pictures and the token are sent.
    """
    path = directory / NOTE
    try:
        with path.open(encoding="utf-8") as file:
            status = os.fstat(file.fileno())
            if status.st_mode & 0o022 or status.st_uid not in (os.geteuid(), 0):
                raise NoteMissing(f"{path} is writable by others, so it is not trusted: restart the server")
            value = json.load(file)
        note = Note(**value)
    except FileNotFoundError:
        raise NoteMissing(f"{path} does not exist") from None
    except PermissionError:
        raise NoteMissing(f"{path} belongs to another user: run the command as the user that runs the server") from None
    except (OSError, ValueError, TypeError) as error:
        raise NoteMissing(f"{path} cannot be read: {error}") from None
    if not (isinstance(note.url, str) and isinstance(note.token, str) and type(note.pid) is int):
        raise NoteMissing(f"{path} is no note of a Lookalike server")
    if not note.url.startswith(("http://", "https://")) or not note.token.isascii() or not note.token.isprintable():
        raise NoteMissing(f"{path} is no note of a Lookalike server")
    return note


def remove_note(directory: Path) -> None:
    """Takes this process's own note away; anyone else's stays."""
    with suppress(NoteMissing, OSError):
        if read_note(directory).pid == os.getpid():
            (directory / NOTE).unlink(missing_ok=True)
