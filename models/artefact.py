"""The Artefact: a graph on disk and the manifest beside it, trusted only while the two agree.

Reads and verifies, never builds. An artefact lies in a folder named by its fingerprint, so that versions of one model
lie side by side and a collection finds its own; `NAME-PRECISION.current` names the one for new collections. The first
version wrote `NAME-PRECISION.onnx` and its manifest straight into the directory, which is read as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from models import golden
from models.errors import ArtefactCorrupt, ArtefactMissing
from models.preprocessing import Preprocessing
from models.registry import DEFAULT, backbone

# 1: of the first version, files by name, the network's own details at the top, no preprocessing. 2: by fingerprint.
FORMAT = 2
_FINGERPRINT = re.compile(r"[a-z0-9][a-z0-9.-]*-[0-9a-f]{12}")
_BUILD = "run `lookalike model build`"


@dataclass(frozen=True, slots=True)
class Artefact:
    """A built model.

    name: "resnet50"; precision: one of PRECISIONS; fingerprint: equal for artefacts whose vectors may be compared;
    dim: length of an embedding; sha256: of the file at `path`; default_threshold: cosine in -1…1; preprocessing: what
    a picture must become before the graph takes it; source: where the weights came from; recipe: how they were turned
    into the file; golden: the embedding of the golden picture, packed; details: what the builder needs beside the fp32
    graph to read its network back out of it.
    """

    name: str
    precision: str
    fingerprint: str
    dim: int
    path: Path
    sha256: str
    default_threshold: float
    preprocessing: Preprocessing = field(repr=False)
    source: str = field(repr=False)
    recipe: str = field(repr=False)
    golden: str = field(repr=False)
    details: Mapping[str, Any] = field(repr=False)

    @property
    def manifest(self) -> Path:
        return self.path.with_suffix(".json")


def find(model_dir: Path, *, model: str = DEFAULT, precision: str) -> Artefact:
    """The model for new collections, its file checked by hash. Raises ArtefactMissing and ArtefactCorrupt."""
    backbone(model)
    fingerprint = current(model_dir, model, precision)
    places = [model_dir / f"{model}-{precision}.json"]
    if fingerprint is not None:
        places = [manifest_path(model_dir, fingerprint, precision), *places]
    for place in places:
        if not place.is_file():
            continue
        artefact = read_manifest(place)
        if fingerprint in (None, artefact.fingerprint):
            check(artefact)
            return artefact
    raise ArtefactMissing(f"no model {model} in {precision} in {model_dir}: {_BUILD}")


def available(model_dir: Path) -> list[Artefact]:
    """What has been built, by name and precision, files not yet checked; unreadable manifests are left out."""
    artefacts: dict[tuple[str, str], Artefact] = {}
    for manifest in (*sorted(model_dir.glob("*/*.json")), *sorted(model_dir.glob("*.json"))):
        try:
            artefact = read_manifest(manifest)
        except ArtefactCorrupt:
            continue
        if artefact.path.is_file():
            artefacts.setdefault((artefact.fingerprint, artefact.precision), artefact)
    return sorted(artefacts.values(), key=lambda each: (each.name, each.precision, each.fingerprint))


def check(artefact: Artefact) -> None:
    """Compares the file with the manifest's hash. Raises ArtefactCorrupt."""
    try:
        found = sha256_of(artefact.path)
    except OSError as error:
        raise ArtefactCorrupt(f"cannot read {artefact.path}: {error.strerror or error}; {_BUILD}") from error
    if found != artefact.sha256:
        raise ArtefactCorrupt(f"{artefact.path} is damaged (its sha256 is not the manifest's): {_BUILD}")


def current(model_dir: Path, model: str, precision: str) -> str | None:
    """The fingerprint for new collections; None where no build has named one, as the first version did not.

    Raises ArtefactCorrupt.
    """
    path = pointer_path(model_dir, model, precision)
    try:
        text = path.read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ArtefactCorrupt(f"cannot read {path} ({error}): {_BUILD}") from error
    if not _FINGERPRINT.fullmatch(text):
        raise ArtefactCorrupt(f"{path} names no model: {_BUILD}")
    return text


def is_current(model_dir: Path, artefact: Artefact) -> bool:
    """Whether new collections get it, where its model and precision are chosen."""
    try:
        named = current(model_dir, artefact.name, artefact.precision)
    except ArtefactCorrupt:
        return False
    if named is None:
        return artefact.manifest == model_dir / f"{artefact.name}-{artefact.precision}.json"
    return named == artefact.fingerprint


def pointer_path(model_dir: Path, model: str, precision: str) -> Path:
    """The file that names the fingerprint for new collections."""
    return model_dir / f"{model}-{precision}.current"


def manifest_path(model_dir: Path, fingerprint: str, precision: str) -> Path:
    """Where an artefact's manifest lies; its graph has the same name and the suffix `.onnx`."""
    return model_dir / fingerprint / f"{precision}.json"


def read_manifest(path: Path) -> Artefact:
    """Raises ArtefactCorrupt where it is none, or of a model that this version does not know."""
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] not in (1, FORMAT):
            raise ValueError("written by another version of Lookalike")
        first = manifest["format"] == 1
        name, precision = str(manifest["name"]), str(manifest["precision"])
        artefact = Artefact(
            name=name,
            precision=precision,
            fingerprint=str(manifest["fingerprint"]),
            dim=int(manifest["dim"]),
            path=path.with_suffix(".onnx"),
            sha256=str(manifest["sha256"]),
            default_threshold=backbone(name).default_thresholds[precision],
            preprocessing=Preprocessing() if first else Preprocessing.parse(manifest["preprocessing"]),
            source=str(manifest["source"]),
            recipe=str(manifest["recipe"]),
            golden=str(manifest["golden"]),
            details={key: manifest[key] for key in ("mean", "late_stride")} if first else dict(manifest["details"]),
        )
        golden.unpack(artefact.golden)
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError, ArtefactMissing) as error:
        raise ArtefactCorrupt(f"{path} is no manifest of a model ({error}): {_BUILD}") from error
    return artefact


def sha256_of(path: Path) -> str:
    """The file's sha256 in lower-case hex. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
