"""Contact sheets of the command line: drawn into a file, and into terminals that show pictures, and into no other."""

from __future__ import annotations

import base64
import io
import os
import pty
import re
import select
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from service.cli.graphics import protocol, sequences
from service.cli.sheets import viewer
from tests.cli.test_cli import Lookalike, album, lookalike, one_line
from tests.conftest import StartServer
from tests.harness.serving import command

__all__ = ["album", "lookalike"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm2"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm2"),
        ({"TERM": "xterm-256color"}, None),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-kitty", "TMUX": "/tmp/x"}, None),
        ({}, None),
    ],
)
def test_a_terminal_is_known_by_what_it_sets(environment: dict[str, str], expected: str | None) -> None:
    assert protocol(environment) == expected


@pytest.mark.parametrize("size", [10, 3_072, 10_000])
def test_both_protocols_carry_the_file_unchanged(size: int) -> None:
    png = os.urandom(size)
    kitty = "".join(sequences(png, "kitty"))
    parts = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty)
    assert base64.b64decode("".join(data for _, data in parts)) == png
    assert all(len(data) <= 4096 for _, data in parts)
    assert [head.endswith("m=1") for head, _ in parts] == [True] * (len(parts) - 1) + [False]
    (told,) = re.findall(r"\x1b\]1337;File=inline=1;size=(\d+)", "".join(sequences(png, "iterm2")))
    assert int(told) == size


def test_a_viewer_needs_a_screen(tmp_path: Path) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text("#!/bin/sh\n")
    opener.chmod(0o755)
    assert viewer({"PATH": str(tmp_path), "DISPLAY": ":0"}) == str(opener)
    assert viewer({"PATH": str(tmp_path)}) is None
    assert viewer({"PATH": str(tmp_path / "none"), "WAYLAND_DISPLAY": "wayland-0"}) is None


def test_a_search_is_drawn_with_its_matches(lookalike: Lookalike, album: Path) -> None:
    lookalike("import", album)
    query = album / "sub/deep/1.jpg"
    done = lookalike("search", query, "--score-threshold", "-1", "--sheet", "found.png", "--open")
    assert done.returncode == 0, done.stderr
    assert "found.png" in done.stdout and "there is no viewer" in done.stderr
    with Image.open(lookalike.folder / "found.png") as drawn:
        many = drawn.size
    answer = lookalike.json("search", query, "--score-threshold", "1.0", "--crop", "0,0,0.2,0.2", "--sheet", "none.png")
    assert answer["no_match"]
    with Image.open(lookalike.folder / "none.png") as drawn:
        assert many[0] == drawn.size[0] and many[1] > drawn.size[1], "the nearest five in grey, in one line"
    assert "must end in .png" in one_line(lookalike("search", query, "--sheet", "found.jpg"))
    both = lookalike.json(
        "search", query, album / "top 1.png", "--score-threshold", "-1", "--limit", "2", "--sheet", "both.png",
        "--filter", '{"must":[{"key":"folder","match":"sub/deep"}]}',
    )  # fmt: skip
    assert both["results"][0]["id"] == "sub:deep:1" and 0.5 < both["best_score"] < 0.99
    with Image.open(lookalike.folder / "both.png") as drawn:
        assert drawn.size[1] > many[1] / 2
    assert "name its file" in one_line(lookalike("search", query, "--open"))
    assert "there is no folder gone" in one_line(lookalike("search", query, "--sheet", "gone/found.png"))
    assert not list(lookalike.folder.glob(".found*")), "nothing half-written is left"


def test_a_terminal_that_shows_pictures_is_given_one_also_beside_a_server(
    lookalike: Lookalike, server: StartServer, album: Path
) -> None:
    running = server()
    lookalike.env["LOOKALIKE_DATA_DIR"] = str(running.data_dir)
    lookalike("import", album)
    ours, theirs = pty.openpty()
    seen = b""
    with subprocess.Popen(
        [*command(), "search", str(album / "sub/deep/1.jpg"), "--sheet", "found.png"],
        cwd=lookalike.folder,
        env={**lookalike.env, "TERM": "xterm-kitty"},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.DEVNULL,
    ) as process:
        # Our own end stays open until all is read: a terminal that is closed may lose what nobody has read yet.
        while not re.search(rb"found\.png\r?\n", seen):
            assert select.select([ours], [], [], 120)[0], seen[-200:]
            seen += os.read(ours, 65536)
        assert process.wait(60) == 0
    os.close(theirs)
    os.close(ours)
    shown = base64.b64decode(b"".join(re.findall(rb"\x1b_G[^;]*;([^\x1b]*)\x1b\\", seen)))
    assert shown == (lookalike.folder / "found.png").read_bytes()
    assert Image.open(io.BytesIO(shown)).format == "PNG"
