"""Activations: how large a network's get on real photographs, recorded once, kept as a small table, never a picture.

With it the int8 model is built everywhere from the weights alone, the same to the bit.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from models.backbones.convolution import Float64
from models.embedder import INPUT
from models.errors import ArtefactCorrupt

# Share of an activation's non-zero values that its int8 range holds; see docs/decisions.md for the alternatives.
QUANTILE = 0.99999
_BINS = 4096
# One byte per channel: steps of 1 ⁄ 12 of an octave below the largest, 255 for nothing.
_STEPS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """network: digest of the one measured. means: by tensor that a convolution reads, float64 (channels,).

    ranges: by quantised tensor, the lowest and highest value to keep in int8.
    """

    network: str
    pictures: int
    means: Mapping[str, Float64]
    ranges: Mapping[str, tuple[float, float]]


def stored(path: Path) -> tuple[Activations, str]:
    """A backbone's table, for its published weights, and what identifies it."""
    text = path.read_bytes()
    return loads(text), hashlib.sha256(text).hexdigest()[:12]


def dumps(activations: Activations) -> bytes:
    """As JSON with a byte per channel. What `loads` gives back differs by up to 3 % per value, and then no more."""
    table = {
        "network": activations.network,
        "pictures": activations.pictures,
        "ranges": {name: [float(f"{end:.6g}") for end in ends] for name, ends in activations.ranges.items()},
        "means": {name: _coded(values) for name, values in activations.means.items()},
    }
    return json.dumps(table, indent=0).encode()


def loads(text: bytes) -> Activations:
    """The inverse of `dumps`. Raises ArtefactCorrupt."""
    try:
        table = json.loads(text)
        ranges = {name: (float(low), float(high)) for name, (low, high) in table["ranges"].items()}
        means = {name: _decoded(value) for name, value in table["means"].items()}
        return Activations(str(table["network"]), int(table["pictures"]), means, ranges)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactCorrupt(f"the table of activations is damaged ({error}): reinstall Lookalike") from error


def record(
    model: onnx.ModelProto,
    pixels: npt.NDArray[np.uint8],
    *,
    network: str,
    quantised: Sequence[str],
    read: Sequence[str],
) -> Activations:
    """Measures a float32 graph on uint8 (n, side, side, 3) pictures; a few hundred do. Takes two passes.

    network: its digest. quantised: the tensors that int8 rounds. read: those that a convolution reads.
    """
    names = list(dict.fromkeys([*quantised, *read]))
    run = _runner(model, names)
    lows = dict.fromkeys(names, 0.0)
    highs = dict.fromkeys(names, 1e-6)
    sums = {name: np.zeros(1) for name in names}
    for picture in pixels:
        for name, value in run(picture).items():
            lows[name] = min(lows[name], float(value.min()))
            highs[name] = max(highs[name], float(value.max()))
            sums[name] = sums[name] + value.mean(1, dtype=np.float64)
    counts = {name: np.zeros(_BINS + 1, np.int64) for name in names}
    for picture in pixels:
        for name, value in run(picture).items():
            places = (value.ravel() - lows[name]) * np.float32(_BINS / (highs[name] - lows[name]))
            counts[name] += np.bincount(places.astype(np.int32), minlength=_BINS + 1)[: _BINS + 1]
    ranges = {name: kept_range(counts[name], lows[name], highs[name]) for name in quantised}
    return Activations(network, len(pixels), {name: sums[name] / len(pixels) for name in read}, ranges)


def kept_range(
    counts: npt.NDArray[np.int64], low: float, high: float, quantile: float = QUANTILE
) -> tuple[float, float]:
    """The range that holds this share of the values counted from low to high; exact zeros of a ReLU do not count."""
    edges = np.linspace(low, high, len(counts))
    weights = counts.astype(np.float64)
    if low == 0:
        weights[0] = 0
    share = np.cumsum(weights) / max(1.0, weights.sum())
    upper = edges[min(len(edges) - 1, int(np.searchsorted(share, quantile)) + 1)]
    lower = 0.0 if low == 0 else min(0.0, float(edges[int(np.searchsorted(share, 1 - quantile))]))
    return lower, max(float(upper), 1e-6)


def _runner(model: onnx.ModelProto, names: list[str]) -> Callable[[npt.NDArray[np.uint8]], dict[str, Any]]:
    """picture → by tensor, float32 (channels, positions)."""
    import onnxruntime

    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    watched.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(picture: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        values = session.run(names, {INPUT: picture[None]})
        return {name: value[0].reshape(value.shape[1], -1) for name, value in zip(names, values, strict=True)}

    return run


def _coded(values: Float64) -> dict[str, Any]:
    """Sizes as bytes on a logarithmic scale; signs only where a value is below zero."""
    sizes = np.abs(values)
    top = float(f"{max(float(sizes.max()), 1e-9):.6g}")
    with np.errstate(divide="ignore"):
        steps = np.round(-np.log2(sizes / top) * _STEPS)
    codes = np.clip(steps, 0, 255).astype(np.uint8)
    coded = {"top": top, "codes": base64.b64encode(codes.tobytes()).decode()}
    if (values < 0).any():
        coded["signs"] = base64.b64encode(np.packbits(values < 0).tobytes()).decode()
    return coded


def _decoded(value: Any) -> Float64:
    codes = np.frombuffer(base64.b64decode(value["codes"], validate=True), np.uint8).astype(np.float64)
    decoded: Float64 = np.where(codes == 255, 0.0, float(value["top"]) * 2.0 ** (-codes / _STEPS))
    if "signs" in value:
        signs = np.frombuffer(base64.b64decode(value["signs"], validate=True), np.uint8)
        decoded[np.unpackbits(signs, count=len(decoded)).astype(bool)] *= -1
    return decoded
