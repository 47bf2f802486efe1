"""Signatures: addresses of pictures that open without a key for a while, since an `<img>` sends no header."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from collections.abc import Callable

from index.errors import RecordConflict, RecordNotFound
from index.records import Records

KIND, NAME = "secret", "thumbnails"
# A picture's address stays the same for an hour, so that browsers keep the picture, and opens for one to two.
STEP_SECONDS = 3600


class Signer:
    """secret: at least 32 bytes; clock: UTC seconds."""

    def __init__(self, secret: bytes, clock: Callable[[], float]) -> None:
        self._secret = secret
        self._clock = clock

    @property
    def step(self) -> int:
        """Grows when signatures change."""
        return int(self._clock()) // STEP_SECONDS

    def sign(self, path: str) -> str:
        """The query string that opens `path` (without a proxy's prefix) until it expires."""
        expires = (self.step + 2) * STEP_SECONDS
        return f"expires={expires}&signature={self._of(path, expires)}"

    def opens(self, path: str, expires: int, signature: str) -> bool:
        """Whether this signature was made for this path and has not expired."""
        good = hmac.compare_digest(self._of(path, expires).encode(), signature.encode())
        return good and self._clock() < expires

    def _of(self, path: str, expires: int) -> str:
        mac = hmac.new(self._secret, f"{expires}\n{path}".encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def secret_of(records: Records) -> bytes:
    """The catalogue's secret, made when it is first asked for; every process that shares the records gets the same."""
    while True:
        try:
            return base64.b64decode(str(records.get(KIND, NAME).value["secret"]), validate=True)
        except (RecordNotFound, KeyError, binascii.Error):
            fresh = base64.b64encode(secrets.token_bytes(32)).decode()
            try:
                records.put(KIND, NAME, {"secret": fresh}, expected=0)
            except RecordConflict:
                continue
