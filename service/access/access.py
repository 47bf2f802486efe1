"""Access: decides from the headers of a request, before its body is read, whether it may go on, and who asks."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from index.records import Records
from service.access.keys import Key, Keys, Scope, digest_of
from service.access.rates import Rates
from service.access.scopes import ANY_COLLECTION, needs
from service.access.signatures import Signer, secret_of
from service.errors import Forbidden, RateLimited, Unauthorized

# Another process that shares the records may make or revoke a key: seen after this many seconds.
FRESH_SECONDS = 5.0
USED_SECONDS = 60.0  # a key's last use is written down once in so long

ANYONE, OWNER = "anonymous", "owner"


@dataclass(frozen=True, slots=True)
class Asker:
    """who: a key's id, `anonymous` while there are no keys, or `owner`: who can read the data directory.

    note_use: the key's last use is to be written down now.
    """

    who: str
    collection: str | None = None
    note_use: bool = False


class Access:
    """The keys as last read, and what they open. Lives on the event loop; `read` blocks and may run in a thread.

    required: a key is needed even while there is none, since the service listens beyond this machine. owner: the token
    of whoever owns the data directory, which opens everything.
    """

    def __init__(
        self,
        records: Records,
        *,
        owner: str | None = None,
        required: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys = Keys(records)
        self.required = required
        self._records = records
        self._owner = None if owner is None else owner.encode()
        self._clock = clock
        self._rates = Rates()
        self._known: dict[str, Key] = {}
        self._noted: dict[str, float] = {}
        self._read_at = float("-inf")
        self._signer: Signer | None = None

    @property
    def closed(self) -> bool:
        """Whether a key is needed."""
        return self.required or bool(self._known)

    @property
    def stale(self) -> bool:
        """Whether `read` is due."""
        return time.monotonic() - self._read_at > FRESH_SECONDS

    def reading(self) -> None:
        """`read` is about to be called: nobody else need."""
        self._read_at = time.monotonic()

    def read(self) -> None:
        """Reads the keys from the records. Blocks."""
        keys = self.keys.all()
        if keys and self._signer is None:
            self._signer = Signer(secret_of(self._records), self._clock)
        self._known = {key.digest: key for key in keys}
        self._read_at = time.monotonic()

    def check(self, headers: Mapping[str, str], operation: str, collection: str | None) -> Asker:
        """Who asks. headers: by lower-case name; collection: the one named in the path.

        Raises Unauthorized, Forbidden, RateLimited.
        """
        scope = needs(operation)
        if scope == "open":
            return Asker(ANYONE)
        sent = _sent(headers)
        if sent is not None and self._owner is not None and hmac.compare_digest(sent.encode(), self._owner):
            return Asker(OWNER)
        if not self.closed:
            return Asker(ANYONE)
        if sent is None:
            raise Unauthorized("Send a key as `Authorization: Bearer KEY` or `X-API-Key: KEY`")
        return self._by_key(sent, scope, operation, collection)

    def opens(self, path: str, expires: int | None, signature: str | None) -> bool:
        """Whether a signed address opens `path`, or no key is needed at all."""
        if self._signer is None or expires is None or signature is None:
            return not self.closed
        return self._signer.opens(path, expires, signature)

    @property
    def step(self) -> int:
        """Another number once signed addresses are other ones; 0 while none are signed."""
        return self._signer.step if self.closed and self._signer is not None else 0

    def signed(self, path: str, root: str = "") -> str:
        """The address of a picture below `root`, with a signature once there are keys."""
        if not self.closed or self._signer is None:
            return root + path
        return f"{root}{path}?{self._signer.sign(path)}"

    def _by_key(self, sent: str, scope: Scope, operation: str, collection: str | None) -> Asker:
        digest, now = digest_of(sent), self._clock()
        key = self._known.get(digest)
        # Found by its hash, which nobody can aim at; compared once more in constant time all the same.
        if key is None or not hmac.compare_digest(key.digest, digest):
            raise Unauthorized("This key is not known here; it may have been revoked")
        if key.expired(now):
            raise Unauthorized("This key has expired; ask for a new one")
        if not key.allows(scope):
            raise Forbidden(f"This needs a key with the scope {scope}; this one has {key.scope}")
        if key.collection not in (None, collection) and operation not in ANY_COLLECTION:
            raise Forbidden(f"This key opens the collection {key.collection} alone")
        if key.rate is not None and (wait := self._rates.wait(key.rate, key.id, now=now)):
            raise RateLimited(key.rate, wait)
        due = now - self._noted.get(key.id, key.used_at or 0.0) >= USED_SECONDS
        if due:
            self._noted[key.id] = now
        return Asker(key.id, key.collection, note_use=due)

    def used(self, id: str) -> None:
        """Writes down that a key was used now. Blocks."""
        self.keys.used(id, self._clock())


def _sent(headers: Mapping[str, str]) -> str | None:
    """The key of a request. Two that differ are none."""
    scheme, _, bearer = headers.get("authorization", "").partition(" ")
    found = {
        each for each in (bearer.strip() if scheme.lower() == "bearer" else "", headers.get("x-api-key", "")) if each
    }
    return found.pop() if len(found) == 1 else None
