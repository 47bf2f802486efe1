"""Help: a command that misses its arguments shows it and nothing else, and flags look like flags."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_cli import Lookalike, one_line

WORDS = [
    [], ["serve"], ["import"], ["search"], ["verify"], ["snapshot"], ["snapshot", "create"], ["snapshot", "restore"],
    ["model"], ["model", "build"], ["model", "list"], ["model", "verify"], ["model", "upgrade"],
]  # fmt: skip


@pytest.fixture
def bare(tmp_path: Path) -> Lookalike:
    return Lookalike(tmp_path, None)


@pytest.mark.parametrize("words", [[], ["model"], ["snapshot"]], ids=" ".join)
def test_a_group_without_a_command_shows_its_help_and_nothing_else(bare: Lookalike, words: list[str]) -> None:
    done = bare(*words)
    assert done.returncode in (0, 2)
    assert done.stdout.strip() == bare(*words, "--help").stdout.strip()
    assert done.stderr == ""


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_flags_are_shown_as_flags(bare: Lookalike, words: list[str]) -> None:
    done = bare(*words, "--help")
    assert done.returncode == 0
    assert "<bool>" not in done.stdout
    assert re.search(r"--help +-h +Show this message", done.stdout)


def test_a_model_list_cuts_no_fingerprint_without_a_mark(tmp_path: Path, model_dir: Path) -> None:
    lookalike = Lookalike(tmp_path, model_dir)
    shown = lookalike("model", "list").stdout
    for each in lookalike.json("model", "list"):
        assert each["fingerprint"] in shown


def test_a_snapshot_into_a_folder_that_does_not_exist_is_refused(bare: Lookalike, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(4, dtype=np.float32))
    bare.json("import", "v.npy", "--model", "m")
    done = bare("snapshot", "create", "newdir/typo/a.tar")
    assert "newdir/typo: there is no such folder" in one_line(done)
    assert done.returncode == 1
    assert not (tmp_path / "newdir").exists()


def test_bad_rows_of_vectors_are_named_and_the_others_imported(bare: Lookalike, tmp_path: Path) -> None:
    array = np.eye(4, dtype=np.float32)
    array[1] = np.nan
    np.save(tmp_path / "v.npy", np.asfortranarray(array))
    (tmp_path / "v.txt").write_bytes(b"\xef\xbb\xbfa\nb\na\nd\n")
    done = bare("import", "v.npy", "--model", "m")
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("bad")] == [
        "bad  v.txt line 2  a number of the vector is missing or not finite",
        "bad  v.txt line 3  the id a is that of an earlier row",
    ]
    assert "2 new, 2 bad" in done.stdout
    summary = bare.json("import", "v.npy", "--model", "m", code=1)
    assert (summary["unchanged"], summary["failed"]) == (2, 2)
