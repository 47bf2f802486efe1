"""What a query is made of: pictures out of base64 text however it was written, and examples joined into one vector."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.search.query import combined, decode_base64

DATA = bytes(range(256)) + b"\xfb\xff\xfe" * 5  # holds + and /, or - and _
TEXT = base64.b64encode(DATA).decode()
MIME = base64.encodebytes(DATA).decode()  # lines of 76, each ended


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        base64.urlsafe_b64encode(DATA).decode(),
        base64.urlsafe_b64encode(DATA).decode().rstrip("="),
        TEXT.rstrip("="),
        MIME,
        MIME.replace("\n", "\r\n"),
        f"  {TEXT}\n",
        "\t".join(TEXT),
        f"data:image/png;base64,{TEXT}",
        f"data:;base64,{MIME}",
        f"DATA:image/png;BASE64,{TEXT}",
        f"data:image/png;charset=x;base64,{base64.urlsafe_b64encode(DATA).decode()}",
        "data:image/png;base64," + TEXT.replace("+", "%2B").replace("/", "%2F").replace("=", "%3D"),
    ],
)
def test_base64_is_read_however_it_was_written(text: str) -> None:
    assert decode_base64(text, "input") == DATA


@pytest.mark.parametrize(
    "text",
    [
        "QUJ*",
        "Q",
        "QUJDR",
        "QQ=Q",
        "=QQ",
        "Schöne",
        "\u200bQUJD",
        "data:image/png,QUJD",
        "data:base64",
        "data:x;base64",
    ],
)
def test_what_is_no_base64_is_refused_by_its_field(text: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        decode_base64(text, "image_base64")
    assert refused.value.field == "image_base64"


@given(st.binary(max_size=200), st.booleans(), st.integers(1, 80))
def test_what_was_encoded_comes_back(data: bytes, urlsafe: bool, width: int) -> None:
    text = (base64.urlsafe_b64encode if urlsafe else base64.b64encode)(data).decode()
    lines = "\r\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert decode_base64(lines, "input") == data


def test_examples_are_joined_into_a_unit_vector() -> None:
    liked = np.array([[1, 0, 0], [0, 1, 0]], np.float32)
    disliked = np.array([[0, 0, 1]], np.float32)
    np.testing.assert_allclose(combined(liked, liked[:0]), [0.5**0.5, 0.5**0.5, 0], atol=1e-6)
    found = combined(liked, disliked)
    np.testing.assert_allclose(found, np.array([0.5, 0.5, -1]) / 1.5**0.5, atol=1e-6)
    assert found.dtype == np.float32


def test_examples_that_cancel_each_other_out_are_refused() -> None:
    one = np.array([[0.6, 0.8]], np.float32)
    with pytest.raises(InvalidRequest, match="cancel"):
        combined(one, one)
