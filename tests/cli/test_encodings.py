"""Names and outputs in any encoding: a command answers, whatever a file is called and wherever its output goes."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.cli.test_cli import Lookalike, one_line, picture
from tests.conftest import StartServer
from tests.harness.process import command

DIM = 8
ENCODINGS = ["ascii", "latin-1", "cp1252", "cp437", "utf-16", "ascii:strict"]
NAMES = [b"root-\xff", b"caf\xe9", "größe".encode(), "кот\n🐈".encode()]


def run(bare: Lookalike, *arguments: str | bytes | Path, **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [*command(), *(os.fsencode(each) for each in arguments)],
        cwd=bare.folder,
        env={**bare.env, **env},
        capture_output=True,
        stdin=subprocess.DEVNULL,
        timeout=120,
        check=False,
    )


def fine(done: subprocess.CompletedProcess[bytes], code: int = 0) -> bytes:
    assert b"Traceback" not in done.stderr
    assert b"is a bug" not in done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Lookalike:
    return Lookalike(tmp_path, None)


@pytest.fixture
def lookalike(tmp_path: Path, model_dir: Path) -> Lookalike:
    return Lookalike(tmp_path, model_dir)


def vector_file(folder: Path, name: bytes = b"v") -> bytes:
    path = Path(os.fsdecode(os.fsencode(folder) + b"/" + name + b".npy"))
    np.save(path, np.random.default_rng(1).standard_normal((4, DIM)).astype(np.float32))
    return os.fsencode(path)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("arguments", [["import", "--help"], ["model", "list", "--json"]], ids=" ".join)
def test_help_and_lists_are_written_in_any_encoding(bare: Lookalike, arguments: list[str], encoding: str) -> None:
    text = fine(run(bare, *arguments, PYTHONIOENCODING=encoding)).decode(encoding.partition(":")[0])
    assert "[]" in text if "--json" in arguments else "Usage" in text


@pytest.mark.parametrize(
    "locale", [{"LC_ALL": "C"}, {"LANG": "C", "LC_ALL": ""}, {"LC_ALL": "POSIX", "PYTHONUTF8": "0"}]
)
def test_the_locale_c_is_enough(bare: Lookalike, locale: dict[str, str]) -> None:
    assert b"no similar images" in fine(run(bare, "--help", **locale))
    file = vector_file(bare.folder, "größe".encode())
    summary = json.loads(fine(run(bare, "import", file, "--model", "m", "--json", **locale)))
    assert summary["created"] == 4
    assert summary["source"].endswith("größe.npy")


@pytest.mark.parametrize(("name", "encoding"), list(zip(NAMES, ["utf-8", "ascii", "latin-1", "utf-16"], strict=True)))
def test_paths_of_any_bytes_go_into_json(bare: Lookalike, name: bytes, encoding: str) -> None:
    file = vector_file(bare.folder, name)
    asked: list[tuple[list[bytes], str]] = [
        ([b"import", file, b"--model", b"m", b"--json"], "source"),
        ([b"snapshot", b"create", name + b".tar", b"--json"], "file"),
        ([b"snapshot", b"restore", name + b".tar", b"--data-dir", name + b"-data", b"--json"], "file"),
    ]
    for arguments, key in asked:
        told = json.loads(fine(run(bare, *arguments, PYTHONIOENCODING=encoding)).decode(encoding))
        assert Path(told[key]).name.startswith(name.decode("utf-8", "replace"))
    fine(run(bare, b"snapshot", b"create", name + b".tar", b"--force", PYTHONIOENCODING=encoding))
    fine(run(bare, "import", name + b"-missing", PYTHONIOENCODING=encoding), 1)


def test_a_folder_of_any_bytes_is_imported_and_told(lookalike: Lookalike, tmp_path: Path) -> None:
    root = Path(os.fsdecode(os.fsencode(tmp_path) + b"/root-\xff"))
    picture(root / "one.jpg", 1)
    picture(root / os.fsdecode(b"caf\xe9.jpg"), 2)
    (root / os.fsdecode(b"bad-\xe9.jpg")).write_bytes(b"none")
    summary = json.loads(fine(run(lookalike, "import", os.fsencode(root), "--json"), 1))
    assert (summary["source"][-6:], summary["created"]) == ("root-\ufffd", 2)
    assert summary["errors"][0]["path"] == "bad-\ufffd.jpg"
    shown = run(lookalike, "import", os.fsencode(root), PYTHONIOENCODING="ascii")
    fine(shown, 1)
    assert b"bad-\\ufffd.jpg" in shown.stderr
    found = json.loads(
        fine(run(lookalike, "search", os.fsencode(root) + b"/one.jpg", "--json", PYTHONIOENCODING="ascii"))
    )
    assert found["results"][0]["id"] == "one"
    table = fine(run(lookalike, "search", os.fsencode(root) + b"/one.jpg", PYTHONIOENCODING="ascii"))
    assert b"##########" in table


def test_beside_a_server_paths_of_any_bytes_reach_it(server: StartServer, tmp_path: Path) -> None:
    running = server()
    beside = Lookalike(tmp_path, None, **running.env)
    for name in (b"v-\xff", b"v%41", "größe".encode()):
        file = vector_file(tmp_path, name)
        Path(os.fsdecode(file)).with_suffix(".txt").write_bytes(b"a\nb\na\nd\n")
        summary = json.loads(
            fine(run(beside, "import", file, "-c", "v", "--model", "m", "--json", "--ids", file[:-4] + b".txt"), 1)
        )
        assert (summary["created"] + summary["replaced"] + summary["unchanged"], summary["failed"]) == (3, 1)
        made = json.loads(fine(run(beside, "snapshot", "create", name + b".tar", "--json")))
        assert made["items"] == 3
        assert Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name + b".tar")).is_file()
    assert "no such folder" in one_line(beside("snapshot", "create", "new/typo/a.tar"))
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("dotenv", "says"),
    [
        ("LOOKALIKE_DATA_DIR=größe\n".encode("latin-1"), ".env line 1 is not UTF-8"),
        (b"LOOKALIKE_HOST=my host\n", "LOOKALIKE_HOST"),
        (("LOOKALIKE_HOST=" + "a" * 300).encode(), "LOOKALIKE_HOST"),
        (b"\0\1\2\3\n", ".env"),
    ],
)
def test_a_dotenv_that_does_not_fit_is_one_line(bare: Lookalike, dotenv: bytes, says: str) -> None:
    (bare.folder / ".env").write_bytes(dotenv)
    for arguments in (["serve"], ["model", "list"]):
        done = bare(*arguments)
        assert says in one_line(done)
        assert done.returncode == 1


def test_a_dotenv_in_utf_16_is_read(bare: Lookalike) -> None:
    (bare.folder / ".env").write_bytes("LOOKALIKE_PROT=8431\r\n".encode("utf-16"))
    assert "LOOKALIKE_PROT is not a setting" in one_line(bare("model", "list"))


def test_a_host_that_does_not_exist_is_one_line(lookalike: Lookalike) -> None:
    for host in ("no-such-host.invalid", "a b", "xn--" + "a" * 60, "192.0.2.1"):
        done = lookalike("serve", "--host", host, "--port", "0")
        assert "host" in one_line(done).lower() or "cannot listen" in one_line(done)
        assert done.returncode == 1
