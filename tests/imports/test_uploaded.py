"""What an uploaded file is called on this machine: a plain name of one part, with a suffix that says its kind."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.imports.sources.opening import SUFFIXES
from service.imports.sources.source import SourceError
from service.imports.uploaded import HEAD, LONGEST, stored_name


@pytest.mark.parametrize(
    ("sent", "head", "name"),
    [
        ("feed.csv", b"", "feed.csv"),
        ("C:\\Users\\me\\Fotos 1.ZIP", b"", "Fotos 1.zip"),
        ("../../etc/passwd.csv", b"", "passwd.csv"),
        ("größe.tar.gz", b"", "größe.tar.gz"),
        ("a\nb\0.jsonl", b"", "a_b_.jsonl"),
        ("..", b"PK\x03\x04", "upload.zip"),
        ("", b"\x1f\x8b\x08", "upload.tar.gz"),
        ("feed", b'\xef\xbb\xbf {"id": 1}', "feed.jsonl"),
        ("feed.txt", b"id,image\n", "feed.txt.csv"),
        ("feed.dat", b"PAR1", "feed.dat.parquet"),
        ("x" * 300 + ".csv", b"", "x" * (LONGEST - 4) + ".csv"),
        (".csv", b"", "upload.csv"),
        ("𠀀" * 300 + ".csv", b"", "𠀀" * (LONGEST - 4) + ".csv"),
    ],
)
def test_a_name_stays_as_far_as_it_may(sent: str, head: bytes, name: str) -> None:
    assert stored_name(sent, head) == name


@pytest.mark.parametrize("head", [b"", b"\0\1\2", b"GIF89a\0", b"   "])
def test_a_kind_that_nobody_can_tell_is_refused(head: bytes) -> None:
    with pytest.raises(SourceError, match="of no kind"):
        stored_name("file", head)


@given(st.text(max_size=200), st.binary(max_size=HEAD))
def test_whatever_is_sent_the_name_is_one_part_of_a_known_kind(sent: str, head: bytes) -> None:
    """It opens nothing outside its folder, and fits into one."""
    try:
        name = stored_name(sent, head)
    except SourceError:
        return
    assert name.endswith(SUFFIXES) and Path(name).name == name and not name.startswith(".")
    assert name.isprintable() and len(name.encode()) <= 255
