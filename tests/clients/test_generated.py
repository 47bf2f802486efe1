"""Clients generated from the committed document: they compile strictly, and they work against a real server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.harness.commands import run
from tests.harness.serving import ROOT, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

HERE = Path(__file__).parent
TOOLS = ROOT / "build" / "tools"


def test_the_python_client_compiles_strictly_and_works(clients: Path, running: Server, picture: Path) -> None:
    python = TOOLS / "python" / "bin" / "python"
    script = shutil.copy(HERE / "use_client.py", clients)
    paths = {"MYPYPATH": str(clients / "python"), "PYTHONPATH": str(clients / "python")}
    run(python, "-m", "mypy", "--strict", clients / "python" / "lookalike_client", script, cwd=clients, env=paths)
    run(python, script, running.url, picture, cwd=clients, env=paths)


def test_the_typescript_types_compile_strictly_and_work(clients: Path, running: Server, picture: Path) -> None:
    work = clients / "use"
    work.mkdir()
    shutil.copy(HERE / "use.ts", work)
    (work / "node_modules").symlink_to(TOOLS / "npm" / "node_modules")
    (work / "package.json").write_text('{"type": "module"}')
    options = {
        "strict": True,
        "module": "nodenext",
        "target": "es2022",
        "types": ["node"],
        "outDir": "out",
        "paths": {"lookalike-client": ["../typescript/index.d.ts"]},
    }
    (work / "tsconfig.json").write_text(json.dumps({"compilerOptions": options, "files": ["use.ts"]}))
    run(work / "node_modules" / ".bin" / "tsc", cwd=work)
    run("node", work / "out" / "use.js", running.url, picture, cwd=work)


@pytest.mark.parametrize(
    "command",
    [
        ("redocly", "lint", "--extends", "recommended-strict"),
        ("spectral", "lint", "--ruleset", str(HERE / "spectral.yaml"), "--fail-severity", "hint"),
    ],
    ids=["redocly", "spectral"],
)
def test_critical_readers_of_the_document_find_nothing(clients: Path, command: tuple[str, ...]) -> None:
    quiet = {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"}
    binary = TOOLS / "npm" / "node_modules" / ".bin" / command[0]
    run(binary, *command[1:], ROOT / "openapi.json", cwd=clients, env=quiet)


def test_the_document_is_easy_to_read_for_generators(clients: Path) -> None:
    """Redocly's own score, of a hundred."""
    binary = TOOLS / "npm" / "node_modules" / ".bin" / "redocly"
    told = subprocess.run(
        [binary, "score", "--format", "json", ROOT / "openapi.json"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true"},
    ).stdout
    assert json.loads(told[told.index("{") :])["agentReadiness"] >= 85
