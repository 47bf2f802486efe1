"""The cell of a row that is its picture: bytes, a path beside the table or in its archive, an address or a data URI."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import unquote_to_bytes

from service.imports.sources.folder import read_file
from service.imports.sources.source import Source, Unreadable, too_large

Resolve = Callable[[str], Callable[[int], bytes]]


def beside(file: Path, *, uploaded: bool) -> Resolve:
    """What paths in a table name: files beside it, or nothing where it is `uploaded`."""
    return _nowhere if uploaded else partial(_beside, file.parent)


def _beside(folder: Path, image: str) -> Callable[[int], bytes]:
    return partial(read_file, str(folder / image))


def _nowhere(image: str) -> Callable[[int], bytes]:
    raise Unreadable("the table came without pictures: send both in one .zip, or name addresses", "not-found")


def pictured(source: Source, image: str | bytes, resolve: Resolve) -> Source:
    """A source whose picture is what a cell holds, or names. Raises Unreadable."""
    if isinstance(image, bytes):
        return replace(source, read=partial(_held, image))
    if image[:5].lower() == "data:":
        return replace(source, read=_embedded(image))
    if re.match(r"https?://", image, re.IGNORECASE):
        return replace(source, url=image)
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", image):
        raise Unreadable("pictures are fetched from http and https addresses alone", "url-refused")
    return replace(source, read=resolve(image))


def unread(max_bytes: int) -> bytes:
    """Reads what has to be fetched and is not. Raises Unreadable."""
    raise Unreadable("pictures are fetched from addresses only with LOOKALIKE_FETCH_URLS=true", "url-refused")


def _embedded(uri: str) -> Callable[[int], bytes]:
    head, comma, body = uri.partition(",")
    if not comma:
        raise Unreadable("the data URI has no comma")

    def read(max_bytes: int) -> bytes:
        try:
            data = unquote_to_bytes(body)
            data = base64.b64decode(data, validate=True) if head.lower().endswith(";base64") else data
        except binascii.Error as error:
            raise Unreadable(f"the data URI is no base64 ({error})") from None
        return _held(data, max_bytes)

    return read


def _held(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise too_large(max_bytes)
    return data
