"""Digests of an upload: two headers and their forms, and nothing that is none."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.datastructures import Headers

from service.http.bodies.digests import announced
from service.http.problems import Problem

hashes = st.binary(min_size=32, max_size=32)


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


@given(hashes)
def test_what_is_named_is_found(raw: bytes) -> None:
    """In the forms of RFC 9530 and RFC 3230, beside other algorithms, in any case of letters."""
    for headers in (
        {"Content-Digest": f"sha-256=:{b64(raw)}:"},
        {"Repr-Digest": f"sha-512=:AAAA:, SHA-256=:{b64(raw)}:;x=1"},
        {"Digest": f"sha-256={b64(raw)}"},
        {"digest": f"MD5=AAAA==, SHA-256={b64(raw)} "},
        {"Digest": f"sha-256={b64(raw)}", "Content-Digest": f"sha-256=:{b64(raw)}:"},
    ):
        assert announced(Headers(headers)) == raw.hex()


@pytest.mark.parametrize("headers", [{}, {"Content-Digest": "sha-512=:AAAA:"}, {"Digest": ""}, {"Digest": "md5=AA=="}])
def test_other_algorithms_are_passed_over(headers: dict[str, str]) -> None:
    assert announced(Headers(headers)) is None


@given(hashes, hashes, st.text("AB+/=:;, ", max_size=50))
def test_what_is_malformed_or_contradicts_itself_is_refused(raw: bytes, other: bytes, text: str) -> None:
    """Whatever the text is, it is a problem or a digest, never a bug."""
    bad: list[dict[str, str]] = [
        {"Content-Digest": f"sha-256={b64(raw)}"},
        {"Digest": f"sha-256=:{b64(raw)}:"},
        {"Content-Digest": f"sha-256=:{b64(raw[:31])}:"},
    ]
    if raw != other:
        bad.append({"Content-Digest": f"sha-256=:{b64(raw)}:", "Digest": f"sha-256={b64(other)}"})
    for headers in bad:
        with pytest.raises(Problem):
            announced(Headers(headers))
    for name in ("Content-Digest", "Digest"):
        try:
            found = announced(Headers({name: f"sha-256={text}"}))
        except Problem:
            continue
        assert found is None or len(found) == 64
