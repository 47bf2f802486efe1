"""The folders are the architecture: imports run one way, and importing does no work."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.serving import ROOT, clean_environment

# Room → what its modules may import of ours, beside the room itself. The longest prefix of a module's name is its room,
# and likewise what it may import: a folder may be named, or one module of it.
LEAVES = {
    "service.errors",
    "service.logs",
    "service.cgroups",
    "service.metrics",
    "service.owner",
    "service.settings",
    "service.strict_json",
    "service.text",
    "service.threads",
}
# What every engine speaks: its values and its Protocols.
VALUES = {"index.facets", "index.info", "index.items", "index.records", "index.types"}
# The inner rooms of imports, those that a source may come from among them.
SOURCES = {
    f"service.imports.sources.{each}"
    for each in ("source", "rows", "names", "folder", "tables", "feeds", "archives", "vectors")
}
IMPORTS = {f"service.imports.{each}" for each in ("rule", "roots", "targets", "reading", "upgrades", "sources")}
ROOMS: dict[str, set[str]] = {
    "models": set(),
    "models.preprocessing": {"models.errors"},
    "models.embedder": {"models.errors", "models.preprocessing"},
    "models.golden": {"models.errors"},
    "models.registry": {"models.errors", "models.preprocessing"},
    "models.artefact": {"models.errors", "models.golden", "models.preprocessing", "models.registry"},
    "models.pictures": {"models.errors", "models.preprocessing"},
    "models.graphs": {"models.errors", "models.embedder"},
    "models.runtimes": {
        "models.errors",
        "models.embedder",
        "models.golden",
        "models.graphs",
        "models.artefact",
        "models.preprocessing",
    },
    "models.backbones": {"models.errors", "models.golden", "models.embedder", "models.preprocessing"},
    "models.build": {"models"},
    "index": set(),
    "index.limits": set(),
    "index.times": set(),
    "index.filters": {"index.errors", "index.limits", "index.times"},
    "index.facets": {"index.filters"},
    "index.items": set(),
    "index.info": set(),
    "index.records": {"index.items"},
    "index.types": {"index.errors", "index.facets", "index.filters", "index.info", "index.items", "index.records"},
    "index.analysis": {"index.errors", *VALUES},
    "index.open": {"index.errors", "index.limits", "index.embedded", *VALUES},
    "index.embedded": {"index.errors", "index.limits", "index.filters", "index.embedded", *VALUES},
    "index.embedded.failpoints": set(),
    "index.embedded.store": {"index.errors", "index.limits", "index.embedded.failpoints", *VALUES},
    "index.embedded.filters": {"index.filters", "index.limits", "index.times", "index.errors", "index.embedded.store"},
    "index.embedded.ann": {"index.errors"},
    "index.embedded.live": {
        "index.filters",
        "index.errors",
        "index.limits",
        "index.embedded.failpoints",
        "index.embedded.store",
        "index.embedded.filters",
        "index.embedded.ann",
        *VALUES,
    },
    "service.errors": set(),
    "service.logs": {"service.settings"},
    "service.cgroups": set(),
    "service.memory": {"service.cgroups", "service.errors", "service.metrics"},
    "service.metrics": {"index.errors", *VALUES},
    "service.owner": set(),
    "service.settings": {"index.limits", "service.errors", "service.fetching.urls", "service.setting_values"},
    "service.setting_values": {"service.text"},
    "service.strict_json": {"index.limits"},
    "service.text": set(),
    "service.upkeep": {"index.errors", "service.snapshots", "service.text", *VALUES},
    "service.snapshots": {"index.errors", "index.open", "service.owner", *VALUES},
    "service.erasing": {
        "service.access",
        "service.errors",
        "service.jobs",
        "service.snapshots",
        "service.text",
        *VALUES,
    },
    "service.access": {"index.errors", "index.limits", "service.errors", *VALUES},
    "service.threads": {"index.errors", "service.metrics"},
    "service.fetching": {"service.errors"},
    "service.embedding": {"models", "index.errors", *VALUES, *LEAVES},
    "service.search": {"index", "service.embedding", *LEAVES},
    "service.imports": {
        "index",
        "models.errors",
        "service.embedding",
        "service.fetching",
        "service.jobs",
        *IMPORTS,
        *LEAVES,
    },
    "service.imports.rule": {"index.items"},
    "service.imports.roots": {"service.imports.sources.source", "service.imports.targets"},
    "service.imports.targets": {
        "index.errors",
        "index.filters",
        "models.errors",
        "service.embedding",
        "service.fetching",
        "service.imports.rule",
        *VALUES,
        *LEAVES,
    },
    "service.imports.reading": {
        "service.errors",
        "service.fetching",
        "service.imports.roots",
        "service.imports.rule",
        "service.imports.sources.names",
        "service.imports.sources.source",
        "service.imports.targets",
    },
    "service.imports.upgrades": {
        "index.errors",
        "index.filters",
        "models.errors",
        "service.embedding",
        "service.imports.rule",
        "service.imports.sources.source",
        *VALUES,
        *LEAVES,
    },
    "service.imports.sources": {"index.errors", "service.text", *SOURCES, *VALUES},
    "service.imports.sources.source": set(),
    "service.imports.sources.rows": {"index.limits", "service.imports.sources.source"},
    "service.imports.sources.names": {"index.limits", "service.text"},
    "service.imports.sources.folder": {
        "service.imports.sources.names",
        "service.imports.sources.source",
        "service.text",
    },
    "service.imports.sources.tables": {
        "index.limits",
        "service.imports.sources.folder",
        "service.imports.sources.names",
        "service.imports.sources.rows",
        "service.imports.sources.source",
        "service.strict_json",
        "service.text",
    },
    "service.imports.sources.feeds": {
        "index.limits",
        "service.imports.sources.rows",
        "service.imports.sources.source",
        "service.imports.sources.tables",
    },
    "service.imports.sources.archives": {
        "service.imports.sources.feeds",
        "service.imports.sources.folder",
        "service.imports.sources.names",
        "service.imports.sources.source",
        "service.imports.sources.tables",
        "service.text",
    },
    "service.imports.sources.vectors": {
        "index.limits",
        "service.imports.sources.rows",
        "service.imports.sources.source",
        "service.imports.sources.tables",
        "service.strict_json",
        "service.text",
    },
    "service.jobs": {"index.errors", *VALUES, *LEAVES},
    "service.drawing": set(),
    "service.analysis": {"index.errors", "index.analysis", "service.jobs", *VALUES, *LEAVES},
    "service.quality": {
        "index",
        "models.errors",
        "service.drawing",
        "service.embedding",
        "service.imports",
        "service.jobs",
        "service.search",
        *LEAVES,
    },
    "service.evaluation": {
        "index.filters",
        "models",
        "service.drawing",
        "service.embedding",
        "service.imports",
        "service.quality",
        *LEAVES,
    },
    "service.exports": {"index.errors", "index.filters", *VALUES, *LEAVES},
    "service.runtime": {
        "index",
        "models",
        "service.embedding",
        "service.fetching",
        "service.jobs",
        "service.memory",
        "service.search",
        *LEAVES,
    },
    "service.sample": {"index", "models", "service.embedding", "service.imports", "service.runtime", *LEAVES},
    "service.http": {
        "index",
        "service.access",
        "models",
        "service.embedding",
        "service.fetching",
        "service.search",
        "service.imports",
        "service.analysis",
        "service.drawing",
        "service.erasing",
        "service.exports",
        "service.jobs",
        "service.quality",
        "service.sample",
        "service.runtime",
        "service.upkeep",
        *LEAVES,
    },
    "service.cli": {"index", "models", "service"},
    "service": set(),
    "tests.harness": {"service", "models", "index"},
    "benchmarks": {"tests.harness", "service", "models", "index"},
    "tests": {"tests.harness", "benchmarks", "service", "models", "index"},
}
# Never imported by these, whatever else their room allows: what serves needs no build chain, what works below HTTP and
# the command line knows neither, and the service names no engine.
ENGINE = {"index.embedded", "apsw", "faiss"}
NEVER: dict[str, set[str]] = {
    "service.http": {"models.build", "models.backbones", "onnx", *ENGINE, "typer", "rich", "service.cli"},
    "service.cli": {*ENGINE, "onnx"},
    "service": {"fastapi", "starlette", "typer", "rich", *ENGINE, "models.build", "models.backbones", "onnx"},
    "service.sample": {"fastapi", "starlette", "typer", "rich", *ENGINE},
    "models.runtimes": {"onnx"},
    "models.pictures": {"onnx"},
    "models.artefact": {"onnx"},
    "index": {"models", "service", "onnxruntime", "PIL"},
}
TOPS = ("models", "index", "service", "benchmarks", "tests")
MODULES = sorted(path for top in TOPS for path in (ROOT / top).rglob("*.py"))


def name_of(path: Path) -> str:
    """The dotted name of a module's file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def imported(source: str, module: str) -> set[str]:
    """Dotted names that a module imports, wherever in its body: modules where the name is one, else as written."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join([*module.split(".")[: -node.level], *([base] if base else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in NAMES else base)
    return found


def within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def room_of(module: str) -> str:
    """The longest entry of ROOMS that holds the module."""
    return max((room for room in ROOMS if within(module, room)), key=len)


def wrong(source: str, module: str) -> set[str]:
    """What a module imports and may not."""
    room = room_of(module)
    never = set().union(
        *(NEVER[key] for key in [max((k for k in NEVER if within(module, k)), key=len, default="")] if key)
    )
    bad: set[str] = set()
    for name in imported(source, module):
        if any(within(name, each) for each in never) or (
            name.split(".")[0] in TOPS and room_of(name) != room and not any(within(name, each) for each in ROOMS[room])
        ):
            bad.add(name)
    return bad


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path: Path) -> None:
    """No module reaches into a room above or beside its own, nor for a library that its room does without."""
    module = name_of(path)
    assert wrong(path.read_text(), module) == set(), module


def test_the_walk_sees_hidden_imports() -> None:
    """An import inside a function, under an alias or of a submodule does not escape the rule."""
    source = "def f():\n    import index.types as t\n    from models.pictures import image\n    from . import owner\n"
    assert imported(source, "service.runtime") == {"index.types", "models.pictures.image", "service.owner"}
    assert wrong("def f():\n    from starlette.requests import Request", "service.search.answer") == {
        "starlette.requests"
    }
    assert wrong("from service.http import problems", "service.embedding.batcher") == {"service.http.problems"}
    assert wrong("from index.embedded.live import live", "index.embedded.store.items") == {"index.embedded.live.live"}


def test_rooms_form_no_circle() -> None:
    """Whoever follows the arrows between rooms never comes back."""
    left = {
        room: {other for other in ROOMS if other != room and any(within(other, to) for to in ROOMS[room])}
        for room in ROOMS
    }
    while leaves := {room for room, others in left.items() if not others & left.keys()}:
        left = {room: others for room, others in left.items() if room not in leaves}
    assert not left


# Runs in a fresh interpreter: imports each module in turn and says what beside reading happened meanwhile.
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
    names = sorted(
        name for name in NAMES if name.split(".")[0] in ("models", "index", "service") and not name.endswith("__main__")
    )
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
