"""Artefacts: built whole or not at all, reused while sound, refused when damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from models import artefact, golden
from models.artefact import Artefact
from models.build.build import build
from models.errors import ArtefactCorrupt, ArtefactError, ArtefactMissing, WeightsCorrupt, WeightsUnavailable
from models.preprocessing import Preprocessing
from models.runtimes.onnxruntime import verify
from models.runtimes.processor import multiplies_int8, resolve_precision


@pytest.fixture
def copied(model_dir: Path, tmp_path: Path) -> Path:
    """A folder with the real fp32 artefact, linked where the file system can."""
    folder = tmp_path / "models"
    found = artefact.find(model_dir, precision="fp32")
    target = artefact.manifest_path(folder, found.fingerprint, "fp32")
    target.parent.mkdir(parents=True)
    for source in (found.path, found.manifest):
        try:
            os.link(source, target.with_suffix(source.suffix))
        except OSError:
            shutil.copyfile(source, target.with_suffix(source.suffix))
    artefact.pointer_path(folder, "resnet50", "fp32").write_text(found.fingerprint)
    return folder


@pytest.fixture(scope="module")
def int8(model_dir: Path) -> Artefact:
    return build(model_dir, precision="int8")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_precisions_are_derived_the_same_everywhere(copied: Path, int8: Artefact) -> None:
    """int8 built again from fp32, with no picture and no weights at hand, is the same file to the bit; fp16 as well."""
    again = build(copied, precision="int8")
    assert again.sha256 == int8.sha256
    half = build(copied, precision="fp16")
    single = artefact.find(copied, precision="fp32")
    assert half.fingerprint == single.fingerprint
    assert again.fingerprint != single.fingerprint
    assert [each.precision for each in artefact.available(copied)] == ["fp16", "fp32", "int8"]
    for each in artefact.available(copied):
        verify(each)
        assert each.dim == 2048
        assert 0 < each.default_threshold < 1


def test_a_standing_artefact_is_reused(copied: Path) -> None:
    """A second build writes nothing."""
    told: list[str] = []
    first = build(copied, precision="int8", progress=told.append)
    before = first.path.stat()
    assert build(copied, precision="int8", progress=told.append) == first
    assert first.path.stat().st_mtime_ns == before.st_mtime_ns
    assert told[-1] == "resnet50-int8 is there, verified"


def test_a_damaged_artefact_is_told_and_built_anew(copied: Path) -> None:
    """One flipped bit: find refuses, build replaces."""
    sound = build(copied, precision="int8")
    data = bytearray(sound.path.read_bytes())
    data[len(data) // 2] ^= 1
    sound.path.write_bytes(data)
    with pytest.raises(ArtefactCorrupt, match="is damaged"):
        artefact.find(copied, precision="int8")
    told: list[str] = []
    assert build(copied, precision="int8", progress=told.append).sha256 == sound.sha256
    assert "building it anew" in told[0]
    verify(sound)


def test_a_graph_without_its_manifest_counts_as_missing(copied: Path) -> None:
    """A build that died between the two files leaves nothing that loads."""
    built = build(copied, precision="int8")
    built.manifest.unlink()
    with pytest.raises(ArtefactMissing, match="lookalike model build"):
        artefact.find(copied, precision="int8")
    assert build(copied, precision="int8") == built


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"format": 99}', "\0\0", "[" * 100_000, "null", '{"format": 2}', "1e999"]
)
def test_damaged_manifests_are_refused(copied: Path, text: str) -> None:
    """Whatever the manifest holds, the answer is one line, and listing goes on without it."""
    manifest = artefact.find(copied, precision="fp32").manifest
    manifest.unlink()  # it may be a link to the project's own
    manifest.write_text(text)
    with pytest.raises(ArtefactCorrupt, match="is no manifest of a model"):
        artefact.find(copied, precision="fp32")
    assert artefact.available(copied) == []


def rewrite_manifest(folder: Path, change: dict[str, Any]) -> None:
    """Changes values of fp32's manifest, which is brought into today's format first."""
    found = artefact.find(folder, precision="fp32")
    whole = json.loads(found.manifest.read_text()) | {
        "format": artefact.FORMAT,
        "preprocessing": found.preprocessing.as_json(),
        "details": dict(found.details),
    }
    found.manifest.unlink()  # it may be a link to the project's own
    found.manifest.write_text(json.dumps(whole | change))


@pytest.mark.parametrize(
    "change",
    [
        {"name": "resnet51"},
        {"precision": "fp8"},
        {"dim": float("inf")},
        {"dim": None},
        {"golden": "no base64"},
        {"golden": 7},
        {"details": None},
        {"preprocessing": None},
        {"preprocessing": []},
        {"preprocessing": {"side": 224}},
        {"preprocessing": {**Preprocessing().as_json(), "rule": "stretch"}},
        {"preprocessing": {**Preprocessing().as_json(), "side": 10**9}},
        {"preprocessing": {**Preprocessing().as_json(), "mean": [1, 2]}},
    ],
    ids=str,
)
def test_manifests_with_one_wrong_value_are_refused(copied: Path, change: dict[str, Any]) -> None:
    """Each field is looked at before anything is loaded."""
    rewrite_manifest(copied, change)
    with pytest.raises(ArtefactCorrupt, match="is no manifest of a model") as caught:
        artefact.find(copied, precision="fp32")
    assert "\n" not in str(caught.value)
    assert artefact.available(copied) == []


@pytest.mark.parametrize(
    "change",
    [
        {"dim": 1280},
        {"preprocessing": {**Preprocessing().as_json(), "side": 260, "short_side": 292}},
        {"preprocessing": {**Preprocessing().as_json(), "mean": [0, 0, 0], "deviation": [1, 1, 1]}},
    ],
    ids=["another length", "another side", "numbers for bytes"],
)
def test_a_manifest_that_describes_another_graph_is_refused(copied: Path, change: dict[str, Any]) -> None:
    """The graph itself is asked before the first picture is."""
    rewrite_manifest(copied, change)
    with pytest.raises(ArtefactCorrupt, match="its manifest says") as caught:
        verify(artefact.find(copied, precision="fp32"))
    assert "\n" not in str(caught.value)


def test_another_computation_is_refused(copied: Path) -> None:
    """A file whose hash is right but that no longer gives its golden embedding does not pass."""
    built = build(copied, precision="int8")
    manifest = json.loads(built.manifest.read_text())
    manifest["golden"] = golden.pack(golden.unpack(manifest["golden"])[::-1])
    built.manifest.write_text(json.dumps(manifest))
    with pytest.raises(ArtefactCorrupt, match="computes something else on this machine"):
        verify(artefact.find(copied, precision="int8"))


def test_missing_models_say_what_to_run(tmp_path: Path) -> None:
    """An empty folder, and one that is not there."""
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ArtefactMissing, match="lookalike model build"):
            artefact.find(folder, precision="fp32")
        assert artefact.available(folder) == []


def test_bad_weights_leave_nothing_behind(tmp_path: Path) -> None:
    """A wrong tarball and a missing one fail before anything is written."""
    wrong = tmp_path / "weights.tgz"
    wrong.write_bytes(b"half a download")
    folder = tmp_path / "models"
    with pytest.raises(WeightsCorrupt, match="sha512"):
        build(folder, weights=wrong)
    with pytest.raises(WeightsUnavailable, match="cannot read"):
        build(folder, weights=tmp_path / "absent.tgz")
    with pytest.raises(ArtefactError, match="unknown: use one of"):
        build(folder, precision="fp8")
    assert not folder.exists()


def test_what_a_killed_build_left_is_removed(copied: Path) -> None:
    """Our own temporary files go once they are old; young ones may belong to a build that runs, others are not ours."""
    old, young, foreign = copied / ".weights-old", copied / ".int8.onnx-partial-young", copied / "notes.txt"
    old.mkdir()
    for path in (old / "part.tgz", young, foreign):
        path.write_bytes(b"x")
    os.utime(old, (0, 0))
    os.utime(foreign, (0, 0))
    build(copied)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_no_room_on_the_disk_is_one_line(copied: Path) -> None:
    """A write that fails in the middle (a real limit on the file size) leaves no part of a file."""
    script = (
        "import resource, sys; from pathlib import Path\n"
        "from models.build.build import build; from models.errors import ModelsError\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try: build(Path(sys.argv[1]), precision='int8')\n"
        "except ModelsError as error: print(type(error).__name__, error)\n"
    )
    before = names(copied)
    command = [sys.executable, "-c", script, str(copied)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stderr == ""
    assert done.stdout.startswith("WeightsUnavailable cannot write to")
    assert done.stdout.count("\n") == 1
    assert names(copied) == before


def test_a_torchvision_model_is_built_beside_the_other(tmp_path: Path) -> None:
    """A .pth gets its own name and fingerprint; int8 needs recorded activations and says so."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    from tests.models.test_weights import torch_resnet

    path = tmp_path / "resnet50.pth"
    torch.save(torch_resnet(4).state_dict(), path)
    built = build(tmp_path / "models", weights=path)
    assert (built.name, built.dim) == ("resnet50-torchvision", 128)
    verify(built)
    half = build(tmp_path / "models", weights=path, precision="fp16")
    assert half.fingerprint == built.fingerprint
    with pytest.raises(ArtefactError, match="int8 needs recorded activations"):
        build(tmp_path / "models", weights=path, precision="int8")


def test_auto_follows_the_processor(tmp_path: Path) -> None:
    """int8 where the processor has integer dot products, fp32 where not or where nobody knows; fp16 on CUDA."""
    cpuinfo = tmp_path / "cpuinfo"
    for flags, expected in (
        ("fpu avx2 avx512f", False),
        ("fpu avx_vnni", True),
        ("amx_int8", True),
        ("avx512_vnni", True),
    ):
        cpuinfo.write_text(f"processor\t: 0\nmodel name\t: vnni\nflags\t\t: {flags}\nflags\t\t: avx_vnni\n")
        assert multiplies_int8(cpuinfo) is expected
    assert not multiplies_int8(tmp_path / "absent")
    assert resolve_precision("auto", "cpu") == ("int8" if multiplies_int8() else "fp32")
    assert resolve_precision("auto", "cuda") == "fp16"
    assert resolve_precision("fp32", "cuda") == "fp32"
