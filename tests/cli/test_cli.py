"""The command line as a person and a program meet it: real processes, exit codes, one line per error."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from index.open import open_catalogue
from service.cli.main import EXPECTED
from service.owner import NOTE, write_note
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.serving import clean_environment, command

COMMANDS = [["serve"], ["import"], ["search"], ["export"], ["model", "build"], ["model", "list"], ["model", "verify"]]


def picture(path: Path, seed: int) -> Path:
    """Coarse coloured noise: every seed looks different to the network."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    Image.fromarray(grid).resize((320, 240), Image.Resampling.BICUBIC).save(path)
    return path


class Lookalike:
    """`lookalike ARGUMENTS` on a data directory of its own."""

    def __init__(self, folder: Path, model_dir: Path | None, **env: str) -> None:
        self.folder = folder
        self.data_dir = folder / "data"
        self.env = clean_environment({"LOOKALIKE_DATA_DIR": str(self.data_dir), **env})
        if model_dir is not None:
            self.env["LOOKALIKE_MODEL_DIR"] = str(model_dir)

    def __call__(self, *arguments: str | Path, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command(), *map(str, arguments)],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            stdin=subprocess.DEVNULL,
        )

    def json(self, *arguments: str | Path, code: int = 0) -> Any:
        done = self(*arguments, "--json")
        assert done.returncode == code, done.stderr
        return json.loads(done.stdout)


@pytest.fixture
def bare(tmp_path: Path) -> Lookalike:
    """Without any model."""
    return Lookalike(tmp_path, None)


@pytest.fixture
def lookalike(tmp_path: Path, model_dir: Path) -> Lookalike:
    return Lookalike(tmp_path, model_dir)


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Six pictures in folders, a text file, and a picture that is none."""
    root = tmp_path / "album"
    for seed in range(3):
        picture(root / f"top {seed}.png", seed)
        picture(root / f"sub/deep/{seed}.jpg", 10 + seed)
    (root / "notes.txt").write_text("no picture, and not named like one")
    (root / "sub/broken.jpg").write_text("no picture")
    return root


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a command that failed as it should."""
    assert done.returncode != 0
    assert "Traceback" not in done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("lookalike: ")
    return line.removeprefix("lookalike: ")


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself_with_an_example(words: list[str], bare: Lookalike) -> None:
    done = bare(*words, "--help")
    assert done.returncode == 0
    assert f"Example: lookalike {' '.join(words)}" in done.stdout
    assert not bare.data_dir.exists()


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    heavy = ["numpy", "onnx", "onnxruntime", "faiss", "fastapi", "pydantic", "httpx", "PIL", "asyncio"]
    code = f"import sys, service.cli.main; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean_environment(), cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_the_version_is_told(bare: Lookalike) -> None:
    assert re.fullmatch(r"lookalike \d+\.\d+\.\d+\n", bare("--version").stdout)


def test_every_expected_error_is_a_class_that_exists() -> None:
    for name in EXPECTED:
        module, _, attribute = name.rpartition(".")
        assert issubclass(getattr(import_module(module), attribute), Exception), name


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["no-such-command"], 2, "No such command"),
        (["search"], 2, "Missing argument"),
        (["search", "x.jpg", "--no-such-option"], 2, "No such option"),
        (["search", "x.jpg", "--limit", "0"], 2, "--limit"),
        (["search", ""], 2, "the name is empty"),
        (["import", ""], 2, "the name is empty"),
        (["snapshot", "create", ""], 2, "the name is empty"),
        (["snapshot", "restore", ""], 2, "the name is empty"),
        (["search", "missing.jpg"], 1, "missing.jpg: No such file"),
        (["import", "missing"], 1, "missing does not exist"),
        (["import", "missing.npy"], 1, "missing.npy"),
        (["serve", "--import", "missing"], 1, "missing does not exist"),
        (["serve", "--port", "99999999"], 1, "LOOKALIKE_PORT"),
        (["serve"], 1, "lookalike model build"),
        (["model", "verify"], 1, "lookalike model build"),
        (["model", "build", "--weights", "missing.tgz"], 1, "missing.tgz"),
        (["model", "build", "--precision", "fp7"], 1, "LOOKALIKE_PRECISION"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_an_error_is_one_line_and_an_exit_code(arguments: list[str], code: int, says: str, bare: Lookalike) -> None:
    done = bare(*arguments)
    assert says in one_line(done)
    assert done.returncode == code
    assert says not in done.stdout


def test_an_unknown_setting_is_an_error_and_not_silence(tmp_path: Path) -> None:
    assert "LOOKALIKE_PROT" in one_line(Lookalike(tmp_path, None, LOOKALIKE_PROT="8000")("model", "list"))


def test_an_import_tells_what_it_did_and_repeats_nothing(lookalike: Lookalike, album: Path) -> None:
    first = lookalike("import", album)
    assert first.returncode == 1  # one file was bad
    assert "6 new" in first.stdout
    assert "1 other files" in first.stdout
    (bad,) = (line for line in first.stderr.splitlines() if line.startswith("bad"))
    assert "sub/broken.jpg" in bad
    assert "not a picture" in bad

    (album / "sub/broken.jpg").unlink()
    picture(album / "top 0.png", 99)
    picture(album / "new.webp", 50)
    summary = lookalike.json("import", album)
    assert {key: summary[key] for key in ("total", "created", "replaced", "unchanged", "failed", "ignored")} == {
        "total": 7, "created": 1, "replaced": 1, "unchanged": 5, "failed": 0, "ignored": 1,
    }  # fmt: skip
    assert lookalike("import", album).returncode == 0


def test_search_prints_a_table_or_the_contracts_answer(lookalike: Lookalike, album: Path, tmp_path: Path) -> None:
    lookalike("import", album)
    query = album / "sub/deep/1.jpg"
    shown = lookalike("search", query, "--score-threshold", "-1", "--limit", "3")
    assert shown.returncode == 0
    assert re.search(r"1 +1\.000 .*sub:deep:1", shown.stdout)
    found = lookalike.json(
        "search", query, "--score-threshold", "-1", "--filter", '{"must":[{"key":"folder","match":""}]}'
    )
    assert found["filtered_count"] == 3
    assert {result["id"].rpartition("-")[0] for result in found["results"]} == {"top_0", "top_1", "top_2"}

    nothing = lookalike("search", query, "--score-threshold", "1.0", "--offset", "0", "--crop", "0,0,0.2,0.2")
    assert nothing.returncode == 0
    assert "no similar images" in nothing.stdout


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--collection", "nowhere"], "nowhere"),
        (["--collection", "Not/A name"], "--collection"),
        (["--filter", "{"], "filter"),
        (["--crop", "1,2,3"], "crop"),
    ],
)
def test_what_the_service_refuses_is_told_in_its_words(options: list[str], says: str, lookalike: Lookalike) -> None:
    query = picture(lookalike.folder / "album/query.png", 1)
    lookalike("import", query.parent)
    assert says in one_line(lookalike("search", query, *options))


def test_a_slip_in_the_directorys_name_makes_no_catalogue(lookalike: Lookalike) -> None:
    query = picture(lookalike.folder / "query.png", 1)
    assert "there is no catalogue" in one_line(lookalike("search", query, "--data-dir", "dat"))
    assert not (lookalike.folder / "dat").exists()
    assert "stdin is empty" in one_line(lookalike("search", "-"))


def test_names_that_a_terminal_would_obey_are_spelt_out(lookalike: Lookalike) -> None:
    root = lookalike.folder / "album"
    root.mkdir()
    (root / "two\nlines [red]and\x1b[31m colour.jpg").write_text("no picture")
    done = lookalike("import", root)
    (bad,) = (line for line in done.stderr.splitlines() if line.startswith("bad"))
    assert r"two\nlines [red]and\x1b[31m colour.jpg" in bad


def test_a_command_whose_streams_came_closed_prints_into_no_database(lookalike: Lookalike) -> None:
    picture(lookalike.folder / "album/a.png", 1)
    shell = f"exec {' '.join(command())} import album <&- >&- 2>&-"
    done = subprocess.run(["sh", "-c", shell], cwd=lookalike.folder, env=lookalike.env, timeout=120, check=False)
    assert done.returncode == 0
    assert lookalike.json("verify")["findings"] == []
    assert lookalike.json("import", "album")["unchanged"] == 1


def test_a_folder_of_the_same_names_is_refused_until_it_is_said_what_is_meant(lookalike: Lookalike) -> None:
    root = lookalike.folder
    for folder, seed in (("A", 1), ("B", 2)):
        picture(root / folder / "1.jpg", seed)
    assert lookalike.json("import", "A")["created"] == 1
    told = one_line(lookalike("import", "B"))
    assert "--prefix" in told
    assert "--replace" in told
    assert lookalike.json("import", "B", "--prefix", "b")["created"] == 1
    assert lookalike.json("import", "B", "--replace")["replaced"] == 1
    assert lookalike.json("import", "B")["unchanged"] == 1
    assert "--prefix" in one_line(lookalike("import", "B", "--prefix", "b c"))


def without_times(answer: Mapping[str, Any]) -> dict[str, Any]:
    """Without what no two runs have in common."""
    own = ("took_ms", "seconds", "images_per_second", "query_id")
    return {key: value for key, value in answer.items() if key not in own}


def test_beside_a_running_server_commands_go_through_it_with_the_same_output(
    server: StartServer, lookalike: Lookalike, album: Path
) -> None:
    alone = without_times(lookalike.json("import", album, code=1))
    query = album / "top 1.png"
    found_alone = without_times(lookalike.json("search", query, "--score-threshold", "-1"))

    running = server("beside")
    beside = Lookalike(lookalike.folder, None, LOOKALIKE_DATA_DIR=str(running.data_dir))
    assert without_times(beside.json("import", album, code=1)) == alone
    assert without_times(beside.json("search", query, "--score-threshold", "-1")) == found_alone
    assert running.client.get("/v1/collections/default").json()["count"] == 6
    again = beside.json("import", album, code=1)
    assert (again["done"], again["unchanged"]) == (0, 6)
    shutil.copytree(album, album.with_name("other"))
    for path in album.with_name("other").glob("*.png"):
        picture(path, 70)
    for path in album.with_name("other").glob("sub/deep/*.jpg"):
        picture(path, 71)
    assert "--prefix" in one_line(beside("import", album.with_name("other")))
    # Another id under the same path, as an earlier version gave it, is kept.
    running.put("default", "old", query.read_bytes(), '{"path":"кот.png","folder":""}').raise_for_status()
    shutil.copy(album / "top 2.png", album.with_name("other") / "кот.png")
    beside.json("import", album.with_name("other"), "--replace", code=1)
    kept = running.client.get("/v1/collections/default/items/old").json()
    assert kept["metadata"]["root"].startswith("other-")
    (album / "sub/broken.jpg").unlink()
    assert beside.json("import", album, "--collection", "another")["created"] == 6
    assert "nowhere" in one_line(beside("search", query, "--collection", "nowhere"))


def test_a_second_server_on_a_directory_is_refused(server: StartServer) -> None:
    running = server()
    second = Lookalike(running.data_dir.parent, None, **{**running.env, "LOOKALIKE_PORT": "0"})
    refused = one_line(second("serve"))
    assert str(running.process.pid if running.process else "") in refused
    assert running.client.get("/readyz").status_code == 200


def test_a_directory_that_another_command_holds_is_told(lookalike: Lookalike) -> None:
    query = picture(lookalike.folder / "query.png", 1)
    catalogue = open_catalogue(lookalike.data_dir)
    try:
        told = one_line(lookalike("search", query))
        assert "in use" in told
        assert str(os.getpid()) in told
        # A server that hangs: it holds the lock, its note is there, and nobody answers.
        write_note(lookalike.data_dir, "http://127.0.0.1:9", "token")
        assert "does not answer" in one_line(lookalike("search", query))
    finally:
        catalogue.close()
    # The lock is free, so what a killed server left behind misleads nobody.
    assert (lookalike.data_dir / NOTE).exists()
    assert lookalike("search", query).returncode == 0


def test_a_server_fills_itself_from_a_folder_while_it_answers(server: StartServer, album: Path) -> None:
    running = server(arguments=["--import", str(album), "--collection", "album"])
    deadline = time.monotonic() + 60
    while "imported" not in running.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running.client.get("/v1/collections/album").json()["count"] == 6
    assert "sub/broken.jpg" in running.log()


def test_a_server_replaces_nothing_that_another_folder_brought(server: StartServer, tmp_path: Path) -> None:
    for folder, seed in (("A", 1), ("B", 2)):
        picture(tmp_path / folder / "1.jpg", seed)
    running = server()
    beside = Lookalike(tmp_path, None, **running.env)
    assert beside.json("import", "A")["created"] == 1
    before = running.client.get("/v1/collections/default/items/1").json()
    running.stop()
    running.start(arguments=["--import", str(tmp_path / "B")])
    deadline = time.monotonic() + 60
    while "was not imported" not in running.log() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert "--prefix NAME" in running.log()
    assert running.client.get("/v1/collections/default/items/1").json() == before


class OnTerminal:
    """A command with a terminal on its stderr, so that it draws its progress bar."""

    def __init__(self, lookalike: Lookalike, *arguments: str | Path) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            [*command(), *map(str, arguments)],
            cwd=lookalike.folder,
            env={**lookalike.env, "TERM": "xterm", "COLUMNS": "120"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def until(self, done: int) -> None:
        """Reads until the bar says that so many pictures are done."""
        while max((int(number) for number in re.findall(r"(\d+)/\d+", self.seen)), default=0) < done:
            self._read()

    def _read(self) -> None:
        try:
            chunk = os.read(self._ours, 65536)
        except OSError:  # Linux: the other end is closed
            chunk = b""
        if not chunk:
            raise EOFError(self.seen[-2000:])
        self.seen += chunk.decode(errors="replace")

    def rest(self) -> str:
        try:
            while True:
                self._read()
        except EOFError:
            return self.seen

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        os.close(self._ours)


@pytest.fixture
def many(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "many"
    for seed in range(120):
        picture(root / f"{seed:03}.jpg", seed)
    yield root


@pytest.mark.slow
def test_a_killed_import_is_resumed_by_running_it_again(lookalike: Lookalike, many: Path) -> None:
    stored = 0
    for done in (1, 40, 75, 110):
        with OnTerminal(lookalike, "import", many) as running:
            running.until(done)
            running.process.kill()
            running.process.wait(30)
        # Whenever it was killed: whole pictures are there or none, and nothing beside them.
        report = lookalike.json("verify")
        assert report["findings"] == []
        assert stored <= report["items"] <= 120
        stored = report["items"]
        assert not [path.name for path in lookalike.data_dir.rglob("*") if path.suffix in (".tmp", ".partial")]
    summary = lookalike.json("import", many)
    assert summary["unchanged"] >= stored > 0
    assert summary["created"] + summary["unchanged"] == 120
    assert lookalike.json("import", many)["unchanged"] == 120


@pytest.mark.slow
def test_ctrl_c_keeps_what_is_done_and_says_so(lookalike: Lookalike, many: Path) -> None:
    with OnTerminal(lookalike, "import", many) as running:
        running.until(20)
        os.killpg(running.process.pid, signal.SIGINT)  # as a terminal does: to the whole group
        told = running.rest()
        assert running.process.wait(30) == 130
    assert "what is done is kept" in told
    assert "Traceback" not in told
    summary = lookalike.json("import", many)
    assert summary["unchanged"] >= 20
    assert summary["created"] + summary["unchanged"] == 120


def test_a_file_becomes_what_the_collection_is_after_a_look_at_what_would_happen(
    server: StartServer, lookalike: Lookalike, tmp_path: Path
) -> None:
    """A dry run changes nothing, a sync removes, one that removes too much is refused; beside a server too."""

    def archive(name: str, seeds: range) -> Path:
        with zipfile.ZipFile(tmp_path / name, "w") as file:
            for seed in seeds:
                file.writestr(f"p{seed}.jpg", jpeg(seed))
        return tmp_path / name

    first, second, foreign = (archive("1.zip", range(4)), archive("2.zip", range(1, 5)), archive("3.zip", range(7, 9)))
    running = server("beside")
    for one in (lookalike, Lookalike(lookalike.folder, None, LOOKALIKE_DATA_DIR=str(running.data_dir))):
        assert one.json("import", first, "--sync")["done"] == 4
        would = one.json("import", second, "--sync", "--dry-run")
        did = one.json("import", second, "--sync")
        counts = ("total", "done", "unchanged", "removed", "failed")
        assert [would[name] for name in counts] == [did[name] for name in counts] == [4, 1, 3, 1, 0]
        refused = one.json("import", foreign, "--sync", code=1)
        assert refused["state"] == "failed" and "max_remove_share" in refused["error"]["detail"]
        assert one.json("import", foreign, "--sync", "--max-remove-share", "1")["removed"] == 4
    assert "take a file" in one_line(lookalike("import", tmp_path, "--sync"))


def test_a_library_that_does_not_end_holds_no_command() -> None:
    """What C libraries do at a process's end may wait for their own threads; here one waits for a signal."""
    stuck = """if True:
        import atexit, ctypes, sys
        libc = ctypes.CDLL(None)
        libc.__cxa_atexit(libc.pause, None, None)
        atexit.register(print, "registered")
        from service.cli.main import main
        sys.argv = ["lookalike", "--version"]
        main()
    """
    done = subprocess.run([sys.executable, "-c", stuck], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.splitlines()[0].startswith("lookalike ") and "registered" in done.stdout
