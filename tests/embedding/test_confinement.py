"""A confined process computes, and can do nothing else; pictures decode in it as they do outside."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.errors import ImageError
from models.pictures import image
from models.preprocessing import Preprocessing
from service.embedding.decoder import DecoderPool
from tests.harness import wild

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")

# Each is tried in a process of its own, confined just before; what counts is the error, or that there is none.
REFUSED = {
    "read a file": "open('/etc/passwd').read()",
    "read its environment": "open('/proc/self/environ', 'rb').read()",
    "write a file": "open(folder + '/new', 'w')",
    "list a folder": "os.listdir('/')",
    "make a folder": "os.mkdir(folder + '/new')",
    "remove a file": "os.unlink(folder + '/there')",
    "rename a file": "os.rename(folder + '/there', folder + '/other')",
    "link a file": "os.symlink('/etc/passwd', folder + '/link')",
    "change a file's mode": "os.chmod(folder + '/there', 0o777)",
    "make a socket": "socket.socket()",
    "make a local socket": "socket.socket(socket.AF_UNIX)",
    "make two sockets": "socket.socketpair()",
    "send without a connection": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "fork": "os.fork()",
    "run a program": "subprocess.run(['true'])",
    "become a program": "os.execv('/bin/true', ['true'])",
    "end its parent": "os.kill(os.getppid(), 0)",
    "look at its parent": "os.pidfd_open(os.getppid())",
    "trace its parent": "traced(os.getppid())",
    "limit its parent": "resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)",
    "leave its namespace": "unshared()",
}
ALLOWED = {
    "compute": "sum(range(1000))",
    "take memory": "bytearray(50_000_000)",
    "start a thread": "threading.Thread(target=print).start()",
    "limit itself": "resource.setrlimit(resource.RLIMIT_CPU, resource.getrlimit(resource.RLIMIT_CPU))",
    "write to what is open": "os.write(2, b'x')",
    "find nothing in its environment": "exec('assert not os.environ')",
}
CODE = """
import ctypes, json, os, resource, socket, subprocess, sys, threading
from service.embedding.confinement import confine

def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), "refused")

system = ctypes.CDLL(None, use_errno=True)
traced = lambda pid: checked(system.ptrace(16, pid, 0, 0))
unshared = lambda: checked(system.unshare(0x20000000))
folder, attempts = sys.argv[1], json.loads(sys.argv[2])
lacking = confine()
answers = {}
for name, attempt in attempts.items():
    try:
        eval(attempt)
        answers[name] = ""
    except OSError as error:
        answers[name] = type(error).__name__
print(json.dumps([lacking, answers]))
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    folder = tmp_path_factory.mktemp("confined")
    (folder / "there").write_text("untouched")
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(folder), json.dumps(REFUSED | ALLOWED)], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    lacking, answers = json.loads(done.stdout)
    if lacking:
        pytest.skip(f"this kernel lacks {', '.join(lacking)}")
    assert sorted(each.name for each in folder.iterdir()) == ["there"]
    yield answers


@pytest.mark.parametrize("attempt", REFUSED)
def test_a_confined_process_cannot(answers: dict[str, str], attempt: str) -> None:
    assert answers[attempt] == "PermissionError"


@pytest.mark.parametrize("attempt", ALLOWED)
def test_a_confined_process_can(answers: dict[str, str], attempt: str) -> None:
    assert answers[attempt] == ""


def test_every_form_of_picture_decodes_in_a_confined_process() -> None:
    """Nothing that a decoder needs is loaded only when a picture needs it."""
    files = [*wild.shown(), *wild.coloured(), *wild.refused()]

    async def main() -> None:
        pool = DecoderPool(workers=2, max_bytes=2**20, max_pixels=64_000_000)
        await pool.start()
        try:
            decoding = (pool.decode(each.data, preprocessing=Preprocessing(), thumbnail=True) for each in files)
            found = await asyncio.gather(*decoding, return_exceptions=True)
            assert pool.restarts == 0
        finally:
            await pool.close()
        for file, got in zip(files, found, strict=True):
            try:
                wanted = image.decode(file.data, thumbnail=True)
            except ImageError as error:
                assert (type(got), str(got)) == (type(error), str(error)), file.name
            else:
                assert isinstance(got, image.Decoded), (file.name, got)
                assert np.array_equal(got.pixels, wanted.pixels), file.name
                assert got.thumbnail == wanted.thumbnail, file.name

    asyncio.run(main())


def test_decoders_are_confined() -> None:
    """As the kernel reports it: no new privileges, a filter of system calls."""

    async def main() -> None:
        pool = DecoderPool(workers=1, max_bytes=2**20, max_pixels=64_000_000)
        await pool.start()
        try:
            (pid,) = pool.pids
            status = await asyncio.to_thread(Path(f"/proc/{pid}/status").read_text)
        finally:
            await pool.close()
        assert "limits" in pool.confinement
        assert ("seccomp" in pool.confinement) == ("NoNewPrivs:\t1" in status and "Seccomp:\t2" in status)

    asyncio.run(main())
