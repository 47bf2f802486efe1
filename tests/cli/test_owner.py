"""The note beside the lock: private, whole, and believed only when it is a note."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.owner import NOTE, Note, NoteMissing, local_url, new_token, read_note, remove_note, write_note


def test_a_note_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_note(tmp_path, "http://127.0.0.1:8000/", "secret")
    assert read_note(tmp_path) == written == Note("http://127.0.0.1:8000", os.getpid(), "secret")


def test_only_its_user_can_read_a_note_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        write_note(tmp_path, "http://127.0.0.1:8000", "secret")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / NOTE).stat().st_mode) == 0o600


def test_writing_replaces_the_note_of_a_killed_server_and_leaves_nothing_else(tmp_path: Path) -> None:
    (tmp_path / NOTE).write_text("half a no")
    write_note(tmp_path, "http://127.0.0.1:1", "new")
    assert read_note(tmp_path).token == "new"
    assert [path.name for path in tmp_path.iterdir()] == [NOTE]


def test_a_missing_note_is_told(tmp_path: Path) -> None:
    with pytest.raises(NoteMissing, match="does not exist"):
        read_note(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"url": "http://127.0.0.1:1"}',
        '{"url": "file:///etc/passwd", "pid": 1, "token": "t"}',
        '{"url": "http://127.0.0.1:1", "pid": "1", "token": "t"}',
        '{"url": "http://127.0.0.1:1", "pid": 1, "token": "t\\r\\nX: y"}',
        '{"url": "http://127.0.0.1:1", "pid": 1, "token": "t", "more": 1}',
    ],
)
def test_what_is_no_note_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / NOTE).write_text(content)
    (tmp_path / NOTE).chmod(0o600)
    with pytest.raises(NoteMissing):
        read_note(tmp_path)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_no_note(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    directory = tmp_path_factory.mktemp("data")
    (directory / NOTE).write_bytes(content)
    with pytest.raises(NoteMissing):
        read_note(directory)


def test_a_note_that_others_could_have_written_is_not_trusted(tmp_path: Path) -> None:
    write_note(tmp_path, "http://127.0.0.1:8000", "secret")
    (tmp_path / NOTE).chmod(0o666)
    with pytest.raises(NoteMissing, match="not trusted"):
        read_note(tmp_path)


def test_a_server_takes_away_its_own_note_and_nobody_elses(tmp_path: Path) -> None:
    write_note(tmp_path, "http://127.0.0.1:8000", "secret")
    remove_note(tmp_path)
    assert not (tmp_path / NOTE).exists()
    (tmp_path / NOTE).write_text(json.dumps({"url": "http://127.0.0.1:1", "pid": os.getpid() + 1, "token": "t"}))
    remove_note(tmp_path)
    assert (tmp_path / NOTE).exists()
    remove_note(tmp_path / "nowhere")


def test_the_token_stays_out_of_what_is_printed() -> None:
    assert "secret" not in repr(Note("http://127.0.0.1:1", 1, "secret"))
    assert new_token() != new_token()
    assert len(new_token()) >= 40


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
        ("192.0.2.7", "http://192.0.2.7:80"),
    ],
)
def test_the_url_in_a_note_is_one_this_machine_can_reach(host: str, url: str) -> None:
    assert local_url(host, 80) == url
