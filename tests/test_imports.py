"""The folders are the architecture: imports run one way, and importing does no work."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import ROOT, clean_environment

# What each room may import of the others.
ALLOWED: dict[str, set[str]] = {
    "models": set(),
    "index": set(),
    "service": {"models", "index"},
    "benchmarks": {"service", "models", "index"},
    "tests": {"benchmarks", "service", "models", "index"},
}
MODULES = sorted(path for room in ALLOWED for path in (ROOT / room).rglob("*.py"))


def imported_rooms(source: str, package: str) -> set[str]:
    """Top-level packages that a module imports, wherever in its body; relative imports resolve to its own package."""
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            rooms.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            rooms.add(package if node.level else (node.module or "").partition(".")[0])
    return rooms & ALLOWED.keys()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    """No module reaches into a room above or beside its own."""
    room = path.relative_to(ROOT).parts[0]
    forbidden = imported_rooms(path.read_text(), room) - ALLOWED[room] - {room}
    assert not forbidden, f"{path.relative_to(ROOT)} may not import {', '.join(sorted(forbidden))}"


def test_the_walk_sees_hidden_imports() -> None:
    """An import inside a function, under an alias or of a submodule does not escape the rule."""
    source = "def f():\n    import index.types as t\n    from models.image import decode\n    from . import sibling\n"
    assert imported_rooms(source, "service") == {"index", "models", "service"}


# Runs in a fresh interpreter: imports each module in turn and tells what beside reading happened meanwhile.
WATCH = """
import importlib, json, os, sys, threading
seen, loading = [], ""
def watch(event, args):
    if event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if str(args[0]) != os.devnull:
            seen.append([loading, "writes " + str(args[0])])
    elif event in ("socket.bind", "socket.connect", "sqlite3.connect", "os.mkdir", "os.fork"):
        seen.append([loading, event + " " + repr(args[1:])])
sys.addaudithook(watch)
for loading in sys.argv[1:]:
    importlib.import_module(loading)
    if threading.active_count() > 1:
        seen.append([loading, "starts " + str(threading.enumerate())])
        break
print(json.dumps(seen))
"""


def test_importing_does_no_work(tmp_path: Path) -> None:
    """Importing any module of the product starts no thread, writes no file, opens no connection."""
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        if path.relative_to(ROOT).parts[0] in ("models", "index", "service") and path.name != "__main__.py"
    ]
    done = subprocess.run(
        [sys.executable, "-B", "-c", WATCH, *names],
        cwd=tmp_path,
        env=clean_environment({"HOME": str(tmp_path)}),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []
    assert list(tmp_path.iterdir()) == []
