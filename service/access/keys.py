"""Key: who may ask for what. Its text is shown once, when it is made; what is kept is the text's SHA-256."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from index.errors import RecordConflict, RecordNotFound
from index.limits import NAME, NAME_RULE
from index.records import Record, Records
from service.access.rates import limit_of
from service.errors import InvalidRequest

Scope = Literal["search", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
KIND = "key"
PREFIX = "lk_"  # so that tools which look for secrets in texts know one
SECRET_BYTES = 32
MAX_NAME = 80  # characters of what a person calls a key

_GIVEN = re.compile(r"[\x21-\x7e]{32,200}")  # what a header can carry and nobody guesses
_DURATION = re.compile(r"([1-9][0-9]{0,5})([mhdwy])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}


@dataclass(frozen=True, slots=True)
class Key:
    """digest: SHA-256 of the text in hex; collection: the only one it opens, None for all; rate: as `100/minute`.

    Times in UTC seconds; expires_at: None for never. used_at: the last use, to within a minute.
    """

    id: str
    digest: str
    scope: Scope
    name: str
    collection: str | None
    rate: str | None
    created_at: float
    expires_at: float | None
    used_at: float | None = None

    def allows(self, scope: Scope) -> bool:
        """Whether it may do what needs `scope`; each scope holds those before it."""
        return SCOPES.index(self.scope) >= SCOPES.index(scope)

    def expired(self, now: float) -> bool:
        return self.expires_at is not None and now >= self.expires_at

    def shown(self) -> dict[str, Any]:
        """All but the digest, for people and programs."""
        values = asdict(self)
        del values["digest"]
        return values


def digest_of(text: str) -> str:
    """A fast hash suffices: the text has 256 random bits, so that nothing can be tried out."""
    return hashlib.sha256(text.encode()).hexdigest()


def new_text() -> str:
    """A key that nobody has."""
    return PREFIX + secrets.token_urlsafe(SECRET_BYTES)


def lifetime(text: str) -> float:
    """Seconds of `90d`, `12h`, `1y`. Raises InvalidRequest."""
    found = _DURATION.fullmatch(text.strip().lower())
    if found is None:
        raise InvalidRequest("expires", "must be a number with m, h, d, w or y, such as 90d")
    return int(found[1]) * _SECONDS[found[2]]


class Keys:
    """The keys of a catalogue, as its records."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def all(self) -> list[Key]:
        """In the order in which they were made."""
        found: list[Key] = []
        cursor = None
        while True:
            page = self._records.list(KIND, limit=1000, cursor=cursor)
            found += [_key(record) for record in page.records]
            cursor = page.next_cursor
            if cursor is None:
                return sorted(found, key=lambda key: (key.created_at, key.id))

    def create(
        self,
        scope: str,
        *,
        now: float,
        name: str = "",
        collection: str | None = None,
        expires: str | None = None,
        rate: str | None = None,
        text: str | None = None,
    ) -> tuple[Key, str]:
        """A new key and its text, which is nowhere afterwards. text: one that was given, instead of a random one.

        expires: as `90d`; rate: as `100/minute`. Raises InvalidRequest.
        """
        if scope not in SCOPES:
            raise InvalidRequest("scope", f"must be one of {', '.join(SCOPES)}")
        if collection is not None and not NAME.fullmatch(collection):
            raise InvalidRequest("collection", f"must be {NAME_RULE}")
        if collection is not None and scope == "admin":
            raise InvalidRequest("collection", "an admin key opens all collections; choose search or write")
        if len(name) > MAX_NAME or not name.isprintable():
            raise InvalidRequest("name", f"must be printable and at most {MAX_NAME} characters")
        if rate is not None:
            limit_of(rate)
        if text is not None and not _GIVEN.fullmatch(text):
            raise InvalidRequest("key", "must be 32 to 200 visible ASCII characters; `openssl rand -hex 32` makes one")
        text = text or new_text()
        key = Key(
            id=secrets.token_hex(6),
            digest=digest_of(text),
            scope=scope,
            name=name,
            collection=collection,
            rate=rate,
            created_at=now,
            expires_at=None if expires is None else now + lifetime(expires),
        )
        self._records.put(KIND, key.id, _value(key), expected=0)
        return key, text

    def revoke(self, id: str) -> Key:
        """Takes the key away; whoever sends it is refused from now on. Raises RecordNotFound."""
        key = _key(self._records.get(KIND, id))
        self._records.delete(KIND, id)
        return key

    def used(self, id: str, now: float) -> None:
        """Notes the last use; a key that was revoked meanwhile stays so."""
        try:
            record = self._records.get(KIND, id)
            self._records.put(KIND, id, _value(replace(_key(record), used_at=now)), expected=record.version)
        except (RecordNotFound, RecordConflict):
            pass


def _value(key: Key) -> dict[str, Any]:
    values = asdict(key)
    del values["id"]
    return values


def _key(record: Record) -> Key:
    return Key(id=record.name, **record.value)
