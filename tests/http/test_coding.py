"""Content codings: what was compressed arrives as it was, bombs end at the cap, and what is broken is refused."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.bodies.coding import MAX_MEMBERS, STEP, Deflated
from service.http.problems import Problem
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import Server

SEARCH = "/v1/collections/default/search"
LIMIT = 2**20


def raw_deflate(data: bytes) -> bytes:
    maker = zlib.compressobj(wbits=-15)
    return maker.compress(data) + maker.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "gzip in members": ("gzip", lambda data: gzip.compress(data[:7]) + gzip.compress(data[7:]) + gzip.compress(b"")),
    "gzip, stored": ("gzip", lambda data: gzip.compress(data, 0)),
    "deflate": ("deflate", zlib.compress),
    "deflate without its wrapper": ("deflate", raw_deflate),
}


def decoded(coding: str, sent: bytes, size: int) -> bytes:
    decoder = Deflated(coding)
    made = b""
    for start in range(0, len(sent), size):
        for piece in decoder.feed(sent[start : start + size]):
            assert 0 < len(piece) <= STEP
            made += piece
    decoder.end()
    return made


@pytest.mark.parametrize("name", CODINGS)
@given(data=st.binary(max_size=5000), repeated=st.sampled_from([1, 1, 200]), size=st.integers(1, 700))
def test_what_was_compressed_arrives_in_pieces_of_any_size(name: str, data: bytes, repeated: int, size: int) -> None:
    coding, encode = CODINGS[name]
    body = data * repeated
    assert decoded(coding, encode(body), size) == body


@given(data=st.binary(max_size=300), cut=st.integers(0, 400), coding=st.sampled_from(["gzip", "deflate"]))
def test_any_bytes_are_a_body_or_refused(data: bytes, cut: int, coding: str) -> None:
    for sent in (data, gzip.compress(data)[:cut], zlib.compress(data)[:cut]):
        try:
            decoded(coding, sent, 50)
        except Problem as problem:
            assert problem.slug == "invalid-request"


def test_a_body_of_countless_members_is_refused() -> None:
    with pytest.raises(Problem):
        decoded("gzip", gzip.compress(b"") * (MAX_MEMBERS + 1), 2**16)


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server(env={"LOOKALIKE_MAX_UPLOAD_BYTES": str(LIMIT)})


@pytest.mark.parametrize("name", CODINGS)
def test_a_compressed_upload_is_answered_like_a_plain_one(running: Server, name: str) -> None:
    coding, encode = CODINGS[name]
    headers = {"content-type": "image/jpeg", "content-encoding": coding}
    response = running.client.post(SEARCH, content=encode(jpeg(1)), headers=headers)
    assert response.status_code == 200, response.text
    asked = encode(b'{"vector":' + str([0.1] * 2048).encode() + b"}")
    headers = {"content-type": "application/json", "content-encoding": coding}
    response = running.client.post("/v1/collections/default/query", content=asked, headers=headers)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, gzip", "aes128gcm"])
def test_a_coding_that_is_not_decoded_here_is_named(running: Server, coding: str) -> None:
    headers = {"content-type": "image/jpeg", "content-encoding": coding}
    response = running.client.post(SEARCH, content=jpeg(1), headers=headers)
    assert (response.status_code, response.json()["type"]) == (415, "/problems/unsupported-media-type")
    assert coding in response.json()["detail"] and "gzip" in response.headers["accept-encoding"]


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_a_bomb_ends_at_the_cap(running: Server, coding: str) -> None:
    """200 MB of zeros in 200 kB; the server's memory does not follow."""
    zeros = bytes(200_000_000)
    bomb = zlib.compress(zeros, 9) if coding == "deflate" else gzip.compress(zeros, 9)
    del zeros
    headers = {"content-type": "image/jpeg", "content-encoding": coding}
    before = running.anonymous_mib()
    for _ in range(5):
        response = running.client.post(SEARCH, content=bomb, headers=headers)
        assert (response.status_code, response.json()["type"]) == (413, "/problems/content-too-large")
    assert running.anonymous_mib() - before < 60


@pytest.mark.parametrize("broken", ["cut", "no gzip", "bytes behind", "changed"])
def test_a_broken_coding_is_invalid(running: Server, broken: str) -> None:
    whole = gzip.compress(jpeg(1))
    sent = {
        "cut": whole[:-5],
        "no gzip": jpeg(1),
        "bytes behind": whole + b"xyz",
        "changed": whole[:-8] + bytes(8),
    }[broken]
    headers = {"content-type": "image/jpeg", "content-encoding": "gzip"}
    response = running.client.post(SEARCH, content=sent, headers=headers)
    assert (response.status_code, response.json()["type"]) == (422, "/problems/invalid-request"), response.text
