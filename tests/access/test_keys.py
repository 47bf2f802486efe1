"""A key opens what its scope and collection say, until it expires or is revoked; its text is kept nowhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from index.errors import RecordNotFound
from index.open import open_catalogue
from index.types import Catalogue
from service.access.access import ANYONE, OWNER, Access
from service.access.audit import FILE, FOLDER, Audit, lines
from service.access.first import FirstKeyError, first_key
from service.access.keys import SCOPES, Keys, lifetime
from service.access.scopes import ANY_COLLECTION, NEEDS, needs
from service.access.signatures import STEP_SECONDS, Signer, secret_of
from service.errors import Forbidden, InvalidRequest, RateLimited, Unauthorized
from service.http.openapi.committed import document

NOW = 1_800_000_000.0


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[Catalogue]:
    opened = open_catalogue(tmp_path)
    yield opened
    opened.close()


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


def access_to(catalogue: Catalogue, clock: Clock, **options: object) -> Access:
    access = Access(catalogue.records, clock=clock, **options)  # type: ignore[arg-type]
    access.read()
    return access


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def test_without_keys_everybody_may_unless_the_service_is_reached_from_outside(catalogue: Catalogue) -> None:
    clock = Clock()
    assert access_to(catalogue, clock).check({}, "delete_collection", "default").who == ANYONE
    assert access_to(catalogue, clock).check(bearer("sk-anything"), "query", "default").who == ANYONE
    with pytest.raises(Unauthorized):
        access_to(catalogue, clock, required=True).check({}, "query", "default")


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("operation", [*NEEDS, "an operation of tomorrow"])
def test_each_scope_opens_what_the_table_says(catalogue: Catalogue, scope: str, operation: str) -> None:
    clock = Clock()
    _, text = Keys(catalogue.records).create(scope, now=NOW)
    access = access_to(catalogue, clock)
    wanted = needs(operation)
    if wanted == "open":
        access.check({}, operation, None)
        return
    with pytest.raises(Unauthorized):
        access.check({}, operation, None)
    if SCOPES.index(scope) >= SCOPES.index(wanted):
        access.check(bearer(text), operation, None)
        access.check({"x-api-key": text}, operation, None)
    else:
        with pytest.raises(Forbidden, match=wanted):
            access.check(bearer(text), operation, None)


def test_every_operation_is_in_the_table() -> None:
    operations = {
        operation["operationId"] for methods in document()["paths"].values() for operation in methods.values()
    }
    assert operations == set(NEEDS)
    assert set(NEEDS) >= ANY_COLLECTION


def test_the_table_of_the_document_is_the_one_in_force() -> None:
    text = (Path(__file__).parents[2] / "docs" / "access.md").read_text("utf-8")
    rows = [line.split("|")[1:4] for line in text.splitlines() if line.startswith("| `")]
    shown = {operation.strip(" `"): scope.strip() for _, operation, scope in rows}
    assert shown == dict(NEEDS)


def test_a_key_of_one_collection_opens_no_other(catalogue: Catalogue) -> None:
    clock = Clock()
    _, text = Keys(catalogue.records).create("write", now=NOW, collection="shoes")
    access = access_to(catalogue, clock)
    assert access.check(bearer(text), "put_item", "shoes").collection == "shoes"
    for operation in ANY_COLLECTION:
        access.check(bearer(text), operation, None)
    with pytest.raises(Forbidden, match="shoes"):
        access.check(bearer(text), "put_item", "hats")


def test_a_key_ends_when_it_expires_and_when_it_is_revoked(catalogue: Catalogue) -> None:
    clock = Clock()
    keys = Keys(catalogue.records)
    key, text = keys.create("search", now=NOW, expires="1d")
    access = access_to(catalogue, clock)
    access.check(bearer(text), "query", "default")
    clock.now += 86_400
    with pytest.raises(Unauthorized, match="expired"):
        access.check(bearer(text), "query", "default")
    clock.now = NOW
    keys.revoke(key.id)
    access.read()
    assert access.check(bearer(text), "query", "default").who == ANYONE  # the last key is gone: open again
    other, _ = keys.create("search", now=NOW)
    access.read()
    with pytest.raises(Unauthorized, match="revoked"):
        access.check(bearer(text), "query", "default")
    keys.used(key.id, NOW)  # a late note of a use brings nothing back
    assert [each.id for each in keys.all()] == [other.id]
    with pytest.raises(RecordNotFound):
        keys.revoke(key.id)


def test_several_keys_are_valid_at_once(catalogue: Catalogue) -> None:
    keys = Keys(catalogue.records)
    texts = [keys.create("search", now=NOW + n)[1] for n in range(3)]
    access = access_to(catalogue, Clock())
    assert len({access.check(bearer(text), "query", "c").who for text in texts}) == 3


def test_a_use_is_noted_once_a_minute(catalogue: Catalogue) -> None:
    clock = Clock()
    keys = Keys(catalogue.records)
    _, text = keys.create("search", now=NOW)
    access = access_to(catalogue, clock)
    asker = access.check(bearer(text), "query", "c")
    assert asker.note_use
    access.used(asker.who)
    assert keys.all()[0].used_at == NOW
    assert not access.check(bearer(text), "query", "c").note_use
    clock.now += 61
    assert access.check(bearer(text), "query", "c").note_use


def test_a_key_that_asks_too_often_waits(catalogue: Catalogue) -> None:
    keys = Keys(catalogue.records)
    _, text = keys.create("search", now=NOW, rate="3/hour")
    _, other = keys.create("search", now=NOW)
    access = access_to(catalogue, Clock())
    for _ in range(3):
        access.check(bearer(text), "query", "c")
    with pytest.raises(RateLimited, match="3 times per hour") as refused:
        access.check(bearer(text), "query", "c")
    assert refused.value.retry_after >= 1
    access.check(bearer(other), "query", "c")


def test_the_owner_of_the_directory_needs_no_key(catalogue: Catalogue) -> None:
    Keys(catalogue.records).create("search", now=NOW)
    access = access_to(catalogue, Clock(), owner="token")
    assert access.check(bearer("token"), "delete_collection", "c").who == OWNER
    with pytest.raises(Unauthorized):
        access.check(bearer("token "[:-2]), "query", "c")


def test_two_keys_in_one_request_are_none(catalogue: Catalogue) -> None:
    keys = Keys(catalogue.records)
    one, two = (keys.create(scope, now=NOW)[1] for scope in ("search", "admin"))
    access = access_to(catalogue, Clock())
    access.check({**bearer(one), "x-api-key": one}, "query", "c")
    with pytest.raises(Unauthorized):
        access.check({**bearer(one), "x-api-key": two}, "query", "c")


@given(st.text(max_size=80), st.sampled_from(["authorization", "x-api-key"]))
def test_no_header_breaks_the_check(text: str, name: str) -> None:
    class Nothing:
        def list(self, *_: object, **__: object) -> object:
            raise AssertionError("not asked")

    access = Access(Nothing(), required=True)  # type: ignore[arg-type]
    with pytest.raises(Unauthorized):
        access.check({name: text}, "query", "c")


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"scope": "root"}, "scope"),
        ({"scope": ""}, "scope"),
        ({"expires": "0d"}, "expires"),
        ({"expires": "soon"}, "expires"),
        ({"expires": "90"}, "expires"),
        ({"expires": "-1d"}, "expires"),
        ({"rate": "fast"}, "rate"),
        ({"rate": "0/second"}, "rate"),
        ({"rate": "10 per 1 second"}, "rate"),
        ({"collection": "No Name"}, "collection"),
        ({"scope": "admin", "collection": "shoes"}, "collection"),
        ({"name": "a\nb"}, "name"),
        ({"name": "n" * 81}, "name"),
        ({"text": "short"}, "key"),
        ({"text": "spaces are not for headers, nor for keys"}, "key"),
    ],
)
def test_what_is_no_key_is_refused_by_its_field(catalogue: Catalogue, wrong: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Keys(catalogue.records).create(**({"scope": "search"} | wrong), now=NOW)
    assert refused.value.field == field
    assert Keys(catalogue.records).all() == []


def test_lifetimes() -> None:
    assert [lifetime(text) for text in ("5m", "12h", "90d", "2w", "1Y")] == [
        300, 43_200, 90 * 86_400, 14 * 86_400, 365 * 86_400,
    ]  # fmt: skip


def test_the_text_of_a_key_is_nowhere_on_disk(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    _, text = Keys(catalogue.records).create("admin", now=NOW)
    catalogue.close()
    assert not any(text.encode() in file.read_bytes() for file in tmp_path.rglob("*") if file.is_file())


def test_a_signature_opens_one_path_until_it_expires() -> None:
    clock = Clock()
    signer = Signer(b"s" * 32, clock)
    signed = dict(pair.split("=") for pair in signer.sign("/a").split("&"))
    expires, signature = int(signed["expires"]), signed["signature"]
    assert STEP_SECONDS < expires - NOW <= 2 * STEP_SECONDS
    assert signer.opens("/a", expires, signature)
    assert not signer.opens("/b", expires, signature)
    assert not signer.opens("/a", expires + 1, signature)
    assert not signer.opens("/a", expires, signature[:-1])
    assert not signer.opens("/a", expires, "é")
    assert not Signer(b"t" * 32, clock).opens("/a", expires, signature)
    clock.now = expires
    assert not signer.opens("/a", expires, signature)


def test_processes_that_share_the_records_share_the_secret(catalogue: Catalogue) -> None:
    assert secret_of(catalogue.records) == secret_of(catalogue.records)
    assert len(secret_of(catalogue.records)) == 32


def test_the_first_key_is_read_from_its_file(catalogue: Catalogue, tmp_path: Path) -> None:
    keys, file = Keys(catalogue.records), tmp_path / "first"
    file.write_text("f" * 40 + "\n")
    made = first_key(keys, file, NOW)
    assert made is not None and made.scope == "admin"
    assert first_key(keys, file, NOW) is None  # the next start finds it
    access_to(catalogue, Clock()).check(bearer("f" * 40), "metrics", None)


def test_the_first_key_is_made_where_there_is_none(catalogue: Catalogue, tmp_path: Path) -> None:
    keys, file = Keys(catalogue.records), tmp_path / "first"
    assert first_key(keys, file, NOW) is not None
    assert file.stat().st_mode & 0o077 == 0
    access_to(catalogue, Clock()).check(bearer(file.read_text().strip()), "metrics", None)
    file.unlink()
    assert first_key(keys, file, NOW) is None  # there are keys: the file was taken away on purpose
    assert not file.exists()


@pytest.mark.parametrize("content", [b"", b"short", b"\xff" * 40, b"two words " * 5, b"x" * 201])
def test_a_first_key_that_is_none_is_told(catalogue: Catalogue, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "first"
    file.write_bytes(content)
    with pytest.raises(FirstKeyError, match=str(file)):
        first_key(Keys(catalogue.records), file, NOW)
    with pytest.raises(FirstKeyError):
        first_key(Keys(catalogue.records), tmp_path / "no folder" / "first", NOW)


def test_the_audit_log_keeps_its_lines_and_its_bounds(tmp_path: Path) -> None:
    audit = Audit(tmp_path)
    for n in range(5):
        audit.note("k1", "put_item", collection="c", id=f"i{n}\n", status=201)
    audit.close()
    with (tmp_path / FOLDER / FILE).open("ab") as file:
        file.write(b'{"at": "cut')
    found = list(lines(tmp_path))
    assert [line["id"] for line in found] == [f"i{n}\n" for n in range(5)]
    assert {line["who"] for line in found} == {"k1"}
    assert len((tmp_path / FOLDER / FILE).read_text().splitlines()) == 6
    assert json.loads((tmp_path / FOLDER / FILE).read_text().splitlines()[0])["at"].endswith("Z")


def test_an_audit_log_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder goes")
    Audit(tmp_path).note("k1", "put_item")
