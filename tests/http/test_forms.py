"""Forms: what is sent arrives byte for byte, and everything else is refused as invalid, never as a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.bodies.forms import MAX_FIELD_BYTES, MAX_PARTS, Form, FormReader, parse_form
from service.http.problems import Problem

BOUNDARY = "b0undary"
TYPE = f"multipart/form-data; boundary={BOUNDARY}"


def part(name: str, data: bytes, filename: str | None = None) -> bytes:
    named = f'; filename="{filename}"' if filename else ""
    return f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode() + data + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def parse(body: bytes, content_type: str = TYPE) -> tuple[dict[str, bytes], dict[str, str]]:
    parsed = parse_form(body, content_type, files=("image",), fields=("limit", "filter"))
    return parsed.files, parsed.fields


@given(st.binary(max_size=3000), st.text(max_size=200))
def test_what_is_sent_arrives(image: bytes, limit: str) -> None:
    if BOUNDARY.encode() in image or BOUNDARY in limit:
        return
    files, fields = parse(form(part("image", image, "a.jpg"), part("limit", limit.encode())))
    assert files == {"image": image}
    assert fields == {"limit": limit}


PIECES = st.sampled_from(
    [
        f"--{BOUNDARY}",
        f"\r\n--{BOUNDARY}",
        "--",
        "\r\n",
        "\r\n\r\n",
        "\n",
        'Content-Disposition: form-data; name="image"',
        'content-disposition: form-data; name="limit"',
        '; filename="a.jpg"',
        '; filename="é%22;.jpg"',
        '; filename="C:\\\\a.jpg"',
        "; filename*=utf-8''x",
        "Content-Type: image/jpeg",
        "Content-Length: 3",
        "\r\nX: y",
        "data",
        " ",
        '"',
    ]
)


@given(st.lists(PIECES, max_size=14), st.booleans())
def test_a_usual_form_is_read_as_the_parser_reads_it(pieces: list[str], begun: bool) -> None:
    """Found by its boundaries alone, it is what the parser makes of it piece by piece, or refused in the same words."""
    start = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="filter"\r\n\r\n' if begun else ""
    body = (start + "".join(pieces)).encode()
    outcomes: list[object] = []
    for read in (parse_form, _by_the_parser):
        try:
            form = read(body, TYPE, files=("image",), fields=("limit", "filter"))
            outcomes.append((form.files, form.fields))
        except Problem as problem:
            outcomes.append(problem.detail)
    assert outcomes[0] == outcomes[1]


def _by_the_parser(body: bytes, content_type: str, **names: tuple[str, ...]) -> Form:
    reader = FormReader(content_type, files=names["files"], fields=names["fields"])
    reader.feed(body)
    return reader.end()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_form_or_refused(body: bytes) -> None:
    try:
        parse(body)
    except Problem as problem:
        assert problem.slug == "invalid-request"


@given(st.data())
def test_a_form_cut_short_or_changed_is_a_form_or_refused(data: st.DataObject) -> None:
    body = bytearray(form(part("image", b"\xff\xd8" + bytes(50), "a.jpg"), part("limit", b"3")))
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(body[: data.draw(st.integers(0, len(body)))])
    try:
        parse(cut)
    except Problem as problem:
        assert problem.slug == "invalid-request"


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (form(part("image", b"x", "a"), part("limitt", b"3")), "not known here"),
        (form(part("image", b"x", "a"), part("image", b"y", "b")), "more than once"),
        (form(part("limit", b"\xff\xfe")), "UTF-8"),
        (form(part("filter", b"x" * (MAX_FIELD_BYTES + 1))), "longer than"),
        (form(*(part("limit", b"1") for _ in range(MAX_PARTS + 1))), "more than"),
        (part("image", b"x", "a"), "closing boundary"),
        (b"", "closing boundary"),
        (b"hello", "multipart"),
        (f"--{BOUNDARY}\r\nX: y\r\n\r\nz\r\n--{BOUNDARY}--\r\n".encode(), "no name"),
    ],
)
def test_what_is_wrong_is_said(body: bytes, said: str) -> None:
    with pytest.raises(Problem, match=said) as problem:
        parse(body)
    assert problem.value.status == 422


def test_a_content_type_without_boundary_is_refused() -> None:
    with pytest.raises(Problem, match="boundary"):
        parse(form(part("image", b"x")), "multipart/form-data")


PREAMBLE = b"This is a multi-part message in MIME format.\r\n"


@pytest.mark.parametrize(
    "ahead",
    [
        b"",
        PREAMBLE,
        b"\r\n",
        b"\r\n\r\n",
        f"--{BOUNDARY}x\r\n".encode(),
        f"{BOUNDARY}\r\n--{BOUNDARY[:-1]}\r\n".encode(),
        PREAMBLE * 2000,
    ],
)
@pytest.mark.parametrize("behind", [b"", b"\r\n", b"an epilogue\r\n", f"\r\n--{BOUNDARY}\r\n".encode()])
@pytest.mark.parametrize("size", [1, 7, 2**20])
def test_what_lies_around_the_parts_is_ignored(ahead: bytes, behind: bytes, size: int) -> None:
    """RFC 2046 §5.1.1: a preamble and an epilogue, in pieces of any size."""
    body = ahead + form(part("image", b"\xff\xd8" + bytes(500), "a.jpg"), part("limit", b"3")) + behind
    reader = FormReader(TYPE, files=("image",), fields=("limit",))
    for start in range(0, len(body), size):
        reader.feed(body[start : start + size])
    parsed = reader.end()
    assert parsed.files == {"image": b"\xff\xd8" + bytes(500)} and parsed.fields == {"limit": "3"}
