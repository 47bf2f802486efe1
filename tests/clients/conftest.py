"""What the tests of clients share: the generated packages, a server, and a picture to ask with."""

from __future__ import annotations

import fcntl
import shutil
from pathlib import Path

import pytest

from tests.conftest import StartServer, absent
from tests.harness.commands import run
from tests.harness.pictures import jpeg
from tests.harness.serving import ROOT, Server


@pytest.fixture(scope="package")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the generated packages `python`, `sdk` and `typescript`, and their files in `dist`."""
    if shutil.which("npm") is None:
        absent("no npm here, which generating clients needs: install Node.js")
    folder = tmp_path_factory.mktemp("clients")
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "clients.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests of several files run side by side, and share the tools
        run(ROOT / "scripts" / "clients", folder, cwd=ROOT)
    return folder


@pytest.fixture(scope="module")
def running(module_server: StartServer) -> Server:
    return module_server()


@pytest.fixture(scope="package")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("picture") / "a.jpg"
    path.write_bytes(jpeg(1))
    return path
