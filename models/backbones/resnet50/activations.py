"""How large the network's activations get on real photographs: recorded once, kept as a small table, never a picture.

With it the int8 model is built everywhere from the weights alone, the same to the bit.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from models.backbones.resnet50 import graph
from models.backbones.resnet50.weights import STAGES, Network
from models.embedder import INPUT
from models.errors import ArtefactCorrupt

Float64 = npt.NDArray[np.float64]

# Share of an activation's non-zero values that its int8 range holds; see docs/decisions.md for the alternatives.
QUANTILE = 0.99999
_BINS = 4096
# One byte per channel: steps of 1 ⁄ 12 of an octave below the largest, 255 for nothing.
_STEPS = 12
_STORED = Path(__file__).with_name("activations.json")


@dataclass(frozen=True, slots=True, eq=False)
class Activations:
    """network: digest of the one measured. means: by tensor that a convolution reads, float64 (channels,).

    ranges: by quantised tensor, the lowest and highest value to keep in int8.
    """

    network: str
    pictures: int
    means: Mapping[str, Float64]
    ranges: Mapping[str, tuple[float, float]]


def quantised_tensors() -> Iterator[str]:
    """Every activation that int8 rounds, in the order in which a picture meets them."""
    yield "conv1"
    for stage, blocks in STAGES.items():
        for block in blocks:
            name = f"res{stage}{block}"
            yield from (f"{name}_branch1",) if block == "a" else ()
            yield from (f"{name}_branch2a", f"{name}_branch2b", f"{name}_branch2c", name)


def block_outputs() -> Iterator[str]:
    """The residual sums, behind their ReLU."""
    for stage, blocks in STAGES.items():
        for block in blocks:
            yield f"res{stage}{block}"


def stored_activations() -> tuple[Activations, str]:
    """The table in the repository, for the published weights, and what identifies it."""
    text = _STORED.read_bytes()
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


def record(network: Network, pixels: npt.NDArray[np.uint8]) -> Activations:
    """Measures `network` on uint8 (n, 224, 224, 3) pictures; a few hundred do. Takes two passes in fp32."""
    read = [*block_outputs(), *(name for name in quantised_tensors() if name.endswith(("2a", "2b"))), "conv1", "pool1"]
    names = list(dict.fromkeys([*quantised_tensors(), *read]))
    run = _runner(network, names)
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
    ranges = {name: kept_range(counts[name], lows[name], highs[name]) for name in quantised_tensors()}
    return Activations(network.digest(), len(pixels), {name: sums[name] / len(pixels) for name in read}, ranges)


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


def _runner(network: Network, names: list[str]) -> Any:
    """picture → by tensor, float32 (channels, positions)."""
    import onnxruntime

    model = graph.build_graph(network)
    model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])

    def run(picture: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        values = session.run(names, {INPUT: picture[None]})
        return {name: value[0].reshape(value.shape[1], -1) for name, value in zip(names, values, strict=True)}

    return run


def _coded(values: Float64) -> dict[str, Any]:
    """Non-negative values as bytes on a logarithmic scale."""
    top = float(f"{max(float(values.max()), 1e-9):.6g}")
    with np.errstate(divide="ignore"):
        steps = np.round(-np.log2(np.maximum(values, 0) / top) * _STEPS)
    codes = np.clip(steps, 0, 255).astype(np.uint8)
    return {"top": top, "codes": base64.b64encode(codes.tobytes()).decode()}


def _decoded(value: Any) -> Float64:
    codes = np.frombuffer(base64.b64decode(value["codes"], validate=True), np.uint8).astype(np.float64)
    decoded: Float64 = np.where(codes == 255, 0.0, float(value["top"]) * 2.0 ** (-codes / _STEPS))
    return decoded
