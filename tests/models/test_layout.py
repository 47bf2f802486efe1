"""The directory of models: versions lie side by side, and one that the first version wrote is read as it is."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.open import open_catalogue
from models import artefact
from models.artefact import Artefact
from models.build.build import build
from models.errors import ArtefactCorrupt, ArtefactMissing
from models.pictures.image import decode
from models.preprocessing import Preprocessing
from models.registry import BACKBONES
from models.runtimes.onnxruntime import OnnxEmbedder, verify
from models.runtimes.processor import resolve_precision
from tests.conftest import StartServer
from tests.harness.pictures import jpeg

# Manifests as the build of 21 November 2026 wrote them.
FIRST = Path(__file__).with_name("first_version")
FINGERPRINTS = {"fp32": "resnet50-d210d075f8dc", "int8": "resnet50-int8-468a6f1dfe80"}


def link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


@pytest.fixture
def old(model_dir: Path, tmp_path: Path) -> Path:
    """A directory of models as the first version left it: fp32 and int8, graphs and manifests by name."""
    folder = tmp_path / "old"
    for precision in FINGERPRINTS:
        manifest = FIRST / f"resnet50-{precision}.json"
        built = build(model_dir, precision=precision)
        assert built.sha256 == json.loads(manifest.read_text())["sha256"]
        link(built.path, folder / f"resnet50-{precision}.onnx")
        shutil.copyfile(manifest, folder / manifest.name)
    return folder


def contents(folder: Path) -> dict[str, int]:
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


def newer(
    found: Artefact, model_dir: Path, digits: str = "0123456789ab", preprocessing: Preprocessing | None = None
) -> Artefact:
    """The same graph as another version of the model: its own fingerprint, its own folder, not yet current."""
    fingerprint = f"{found.fingerprint.rpartition('-')[0]}-{digits}"
    target = artefact.manifest_path(model_dir, fingerprint, found.precision)
    link(found.path, target.with_suffix(".onnx"))
    manifest = json.loads(found.manifest.read_text()) | {
        "format": artefact.FORMAT,
        "fingerprint": fingerprint,
        "recipe": f"another {found.recipe}",
        "preprocessing": (preprocessing or found.preprocessing).as_json(),
        "details": dict(found.details),
    }
    target.write_text(json.dumps(manifest))
    return artefact.read_manifest(target)


def make_current(model_dir: Path, version: Artefact) -> None:
    artefact.pointer_path(model_dir, version.name, version.precision).write_text(version.fingerprint + "\n")


def test_old_manifests_mean_what_they_meant(old: Path) -> None:
    """Fingerprints as before, the preprocessing that there was, and graphs that compute what they did."""
    assert {each.precision: each.fingerprint for each in artefact.available(old)} == FINGERPRINTS
    for precision in FINGERPRINTS:
        found = artefact.find(old, precision=precision)
        assert found.preprocessing == Preprocessing(side=224, short_side=256, rule="crop", filter="bicubic")
        assert found.default_threshold == 0.62
        verify(found)


def test_todays_build_keeps_the_fingerprints(old: Path, model_dir: Path) -> None:
    """What is built today may be compared with what was built then, and what is there is not built again."""
    before = contents(old)
    for precision, fingerprint in FINGERPRINTS.items():
        assert build(model_dir, precision=precision).fingerprint == fingerprint
        assert build(old, precision=precision).path == old / f"resnet50-{precision}.onnx"
    assert contents(old) == before


def test_a_collection_of_then_answers(server: StartServer, old: Path, model_dir: Path) -> None:
    """The same answer from the old directory, and from one where a newer version has come beside it."""
    with_new = server("data")
    assert with_new.put("default", "a", jpeg(1)).status_code == 201
    first = with_new.search("default", jpeg(2), limit=1, score_threshold=-1).json()
    with_new.stop()

    with_old = server("data", model_dir=old)
    again = with_old.search("default", jpeg(2), limit=1, score_threshold=-1).json()
    assert (again["results"], again["model"]) == (first["results"], first["model"])
    with_old.stop()

    found = artefact.find(old, precision=resolve_precision("auto", "auto"))
    version = newer(found, old)
    make_current(old, version)
    with_both = server("data", model_dir=old)
    again = with_both.search("default", jpeg(2), limit=1, score_threshold=-1)
    assert (again.status_code, again.json()["results"]) == (200, first["results"])
    assert with_both.client.put("/v1/collections/new").status_code == 201
    shown = {name: with_both.client.get(f"/v1/collections/{name}").json() for name in ("default", "new")}
    assert shown["default"]["fingerprint"] == found.fingerprint
    assert shown["new"]["fingerprint"] == version.fingerprint


def test_a_picture_is_prepared_as_its_collections_model_wants_it(
    server: StartServer, old: Path, tmp_path: Path
) -> None:
    """One process, three collections whose models differ only in how a picture is fitted: each its own vector."""
    found = artefact.find(old, precision=resolve_precision("auto", "auto"))
    rules = {"crop": found}
    for number, rule in enumerate(("squash", "pad")):
        preprocessing = Preprocessing.parse(found.preprocessing.as_json() | {"rule": rule})
        rules[rule] = newer(found, old, f"00000000000{number}", preprocessing)
    catalogue = open_catalogue(tmp_path / "data")
    for rule, version in rules.items():
        catalogue.create(rule, model=rule, fingerprint=version.fingerprint, dim=version.dim)
    catalogue.close()
    running = server("data", model_dir=old)
    picture, other = jpeg(1, (500, 200)), jpeg(2, (500, 200))
    for rule, version in rules.items():
        assert running.put(rule, "a", picture).status_code == 201
        answer = running.search(rule, other, score_threshold=-1).json()
        embedder = OnnxEmbedder(version, threads=1)
        pixels = np.stack([decode(each, preprocessing=version.preprocessing).pixels for each in (picture, other)])
        one, two = embedder.embed(pixels)
        assert answer["results"][0]["score"] == pytest.approx(float(one @ two), abs=1e-3)
    scores = {rule: running.search(rule, other, score_threshold=-1).json()["best_score"] for rule in rules}
    assert min(abs(scores[a] - scores[b]) for a in rules for b in rules if a < b) > 0.005


def test_versions_lie_side_by_side(old: Path) -> None:
    """New collections get the one that is named, the others stay to be found, and a build names its own again."""
    found = artefact.find(old, precision="int8")
    second, third = newer(found, old), newer(found, old, "ba9876543210")
    assert artefact.find(old, precision="int8") == found  # nothing names another one yet
    make_current(old, third)
    assert artefact.find(old, precision="int8") == third
    assert {each.fingerprint for each in artefact.available(old) if each.precision == "int8"} == {
        found.fingerprint,
        second.fingerprint,
        third.fingerprint,
    }
    assert build(old, precision="int8").fingerprint == FINGERPRINTS["int8"]
    assert artefact.find(old, precision="int8").fingerprint == FINGERPRINTS["int8"]


@pytest.mark.parametrize("text", [b"", b"../..", b"resnet50", b"\xff\xfe", b"a b-0123456789ab"])
def test_a_damaged_name_of_the_current_version_is_refused_and_built_anew(old: Path, text: bytes) -> None:
    """What names no fingerprint is one line that says what to do, and doing it helps."""
    artefact.pointer_path(old, "resnet50", "fp32").write_bytes(text)
    with pytest.raises(ArtefactCorrupt, match="lookalike model build"):
        artefact.find(old, precision="fp32")
    build(old)
    assert artefact.find(old, precision="fp32").fingerprint == FINGERPRINTS["fp32"]


def test_a_named_version_that_is_gone_is_missing(old: Path) -> None:
    """Another version of the model does not take its place unasked: its vectors could not be compared."""
    found = artefact.find(old, precision="fp32")
    make_current(old, replace(found, fingerprint="resnet50-00000000aaaa"))
    with pytest.raises(ArtefactMissing, match="lookalike model build"):
        artefact.find(old, precision="fp32")


def test_unknown_models_are_named(old: Path) -> None:
    """Asked for by name, and found on the disk where another version of the service has built it."""
    with pytest.raises(ArtefactMissing, match="LOOKALIKE_MODEL may be " + " or ".join(BACKBONES)):
        artefact.find(old, model="resnet51", precision="fp32")
    manifest = json.loads((old / "resnet50-fp32.json").read_text()) | {"name": "resnet51"}
    (old / "resnet51-fp32.json").write_text(json.dumps(manifest))
    with pytest.raises(ArtefactCorrupt, match="resnet51"):
        artefact.read_manifest(old / "resnet51-fp32.json")
    assert {each.name for each in artefact.available(old)} == {"resnet50"}
