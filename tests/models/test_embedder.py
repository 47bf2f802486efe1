"""Embedding: unit rows in order from any thread, or an error."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from models import artefact, golden
from models.backbones.convolution import Convolution
from models.backbones.resnet50.builder import GOLDEN
from models.backbones.resnet50.graph import build_graph
from models.backbones.resnet50.weights import Network
from models.build.build import build
from models.embedder import INPUT, OUTPUT
from models.errors import ArtefactCorrupt, DeviceUnavailable, EmbeddingInvalid
from models.graphs.feature_map import with_map
from models.pictures.image import decode
from models.preprocessing import Preprocessing
from models.runtimes.histogram import HistogramEmbedder
from models.runtimes.onnxruntime import (
    BUCKETS,
    OnnxEmbedder,
    bucketed,
    golden_embedding,
    unit_rows,
    wanted_providers,
)
from tests.conftest import Photos
from tests.harness.networks import noise_pictures, tiny_network


@pytest.fixture(scope="module")
def fp32(model_dir: Path) -> OnnxEmbedder:
    return OnnxEmbedder(artefact.find(model_dir, precision="fp32"), threads=1)


@pytest.fixture(scope="module")
def int8(model_dir: Path) -> OnnxEmbedder:
    return OnnxEmbedder(build(model_dir, precision="int8"), threads=1)


def test_the_published_network_gives_the_golden_embedding(fp32: OnnxEmbedder) -> None:
    """The embedding of the generated picture is the one in the repository: cosine at least 0.9999."""
    found = fp32.embed(golden.golden_picture(224)[None])[0]
    expected = golden.stored(GOLDEN, "fp32")
    assert found @ expected / np.linalg.norm(expected) >= 0.9999


def test_a_batch_is_its_pictures_one_by_one(int8: OnnxEmbedder) -> None:
    """Order is kept, rows have unit length, and a neighbour in the batch changes nothing."""
    pixels = np.stack(list(noise_pictures(5)))
    together = int8.embed(pixels)
    assert together.shape == (5, int8.dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(together, np.concatenate([int8.embed(each[None]) for each in pixels]), atol=1e-6)
    assert int8.embed(pixels[:0]).shape == (0, int8.dim)


def test_threads_share_one_session(int8: OnnxEmbedder) -> None:
    """Concurrent callers get the same as one after the other."""
    pictures = [each[None] for each in noise_pictures(8)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(int8.embed, pictures))
    for found, picture in zip(together, pictures, strict=True):
        np.testing.assert_allclose(found, int8.embed(picture), atol=1e-6)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite2"])
def test_a_map_comes_with_the_same_vector(light_dir: Path, name: str, precision: str) -> None:
    """Bit for bit what `embed` gives, which stays as it was; the map's mean points where the vector does."""
    embedder = OnnxEmbedder(build(light_dir, model=name, precision=precision), threads=1)
    side = embedder.preprocessing.side
    pixels = np.concatenate([golden.golden_picture(side)[None], golden.golden_picture(side)[None, ::-1]])
    before = embedder.embed(pixels)
    vectors, maps = embedder.embed_with_map(pixels)
    np.testing.assert_array_equal(vectors, before)
    np.testing.assert_array_equal(embedder.embed(pixels), before)
    assert maps.dtype == np.float32
    assert maps.shape == (2, *{"resnet50": (7, 7), "efficientnet-lite2": (9, 9)}[name], embedder.dim)
    pooled = maps.astype(np.float64).mean((1, 2))
    cosines = (pooled * vectors).sum(1) / np.linalg.norm(pooled, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-5)
    none, empty = embedder.embed_with_map(pixels[:0])
    assert none.shape == (0, embedder.dim)
    assert empty.shape == (0, *maps.shape[1:])
    with pytest.raises(ValueError, match="pixels are"):
        embedder.embed_with_map(pixels[0])


def test_a_map_shows_where_something_is(fp32: OnnxEmbedder) -> None:
    """What covers one corner of a picture changes the map there more than in the opposite corner."""
    plain = golden.golden_picture(224)
    for rows, columns in ((slice(0, 64), slice(0, 64)), (slice(0, 64), slice(160, 224))):
        covered = plain.copy()
        covered[rows, columns] = 0
        _, maps = fp32.embed_with_map(np.stack([plain, covered]))
        change = np.abs(maps[0] - maps[1]).sum(2)
        near = change[:2, :2] if columns.start == 0 else change[:2, -2:]
        far = change[-2:, -2:] if columns.start == 0 else change[-2:, :2]
        assert near.mean() > 2 * far.mean()


def test_threads_ask_for_the_first_map_together(int8: OnnxEmbedder) -> None:
    """One second session is loaded, and everybody gets the same."""
    picture = next(iter(noise_pictures(1)))[None]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(int8.embed_with_map, [picture] * 8))
    for vectors, maps in found:
        np.testing.assert_array_equal(vectors, found[0][0])
        np.testing.assert_array_equal(maps, found[0][1])


def test_a_graph_without_a_map_is_refused() -> None:
    """One line says why, instead of a map of something else."""
    nodes = [onnx.helper.make_node("Identity", [INPUT], [OUTPUT])]
    ends = [onnx.helper.make_tensor_value_info(end, onnx.TensorProto.FLOAT, [1]) for end in (INPUT, OUTPUT)]
    graph = onnx.helper.make_model(onnx.helper.make_graph(nodes, "none", ends[:1], ends[1:]))
    with pytest.raises(ArtefactCorrupt, match="no feature map"):
        with_map(graph.SerializeToString())


@pytest.mark.parametrize(
    "pixels",
    [
        np.zeros((1, 224, 224, 3), np.float32),
        np.zeros((224, 224, 3), np.uint8),
        np.zeros((1, 3, 224, 224), np.uint8),
    ],
)
def test_other_shapes_and_types_are_refused(int8: OnnxEmbedder, pixels: np.ndarray) -> None:
    """A programming error is reported as such, before the runtime sees it."""
    with pytest.raises(ValueError, match="expected uint8"):
        int8.embed(pixels)


def test_a_zero_embedding_is_zero_in_the_graph_and_an_error_outside() -> None:
    """A network whose features all vanish gives zeros, not NaN, and the embedder refuses them."""
    dead = {
        name: Convolution(np.zeros_like(layer.kernel), np.zeros_like(layer.bias))
        for name, layer in tiny_network().convolutions.items()
    }
    model = build_graph(Network(dead, (0.0, 0.0, 0.0), late_stride=False, source="zero"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run([OUTPUT], {INPUT: np.stack(list(noise_pictures(2)))})[0]
    assert (found == 0).all()
    with pytest.raises(EmbeddingInvalid, match="picture 0, 1 of the batch"):
        unit_rows(found)


@pytest.mark.parametrize("value", [0.0, 0.5, np.nan, np.inf])
def test_rows_that_are_no_unit_vectors_are_named(value: float) -> None:
    """Zero, short, NaN and infinite rows are all refused."""
    rows = np.eye(4, dtype=np.float32)
    rows[2, 2] = value
    with pytest.raises(EmbeddingInvalid, match="picture 2 of the batch"):
        unit_rows(rows)


def test_a_kernel_that_computes_something_else_is_refused_at_start(model_dir: Path) -> None:
    """The golden embedding of another artefact is like a machine whose int8 kernel saturates: it must not start."""
    built = build(model_dir, precision="int8")
    turned = golden.unpack(built.golden)[::-1].copy()
    with pytest.raises(ArtefactCorrupt, match="LOOKALIKE_PRECISION=fp32"):
        OnnxEmbedder(replace(built, golden=golden.pack(turned)), threads=1)


def test_a_file_that_is_no_model_is_one_line(model_dir: Path, tmp_path: Path) -> None:
    """The runtime's own error is folded into ours."""
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ArtefactCorrupt, match="does not load") as caught:
        OnnxEmbedder(replace(artefact.find(model_dir, precision="fp32"), path=path), threads=1)
    assert "\n" not in str(caught.value)


@pytest.mark.skipif("CUDAExecutionProvider" in onnxruntime.get_available_providers(), reason="this machine has CUDA")
def test_cuda_is_refused_or_replaced_where_there_is_none(model_dir: Path) -> None:
    """Asked for by name it is an error that says what to do; with auto the CPU takes over and says so."""
    built = artefact.find(model_dir, precision="fp32")
    with pytest.raises(DeviceUnavailable, match="LOOKALIKE_DEVICE=cpu"):
        OnnxEmbedder(built, threads=1, device="cuda")
    assert OnnxEmbedder(built, threads=1, device="auto").providers == ["CPUExecutionProvider"]


def test_providers_are_asked_for_best_first(tmp_path: Path) -> None:
    """TensorRT before CUDA before the CPU, TensorRT only where it may keep its engines."""
    gpu = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    assert wanted_providers(gpu, "cpu", 224) == ["CPUExecutionProvider"]
    assert [name for name, *_ in wanted_providers(gpu, "cuda", 224)[:-1]] == ["CUDAExecutionProvider"]
    first, second, last = wanted_providers(gpu, "auto", 260, tmp_path)
    assert (first[0], second[0], last) == (gpu[0], gpu[1], gpu[2])
    assert first[1]["trt_engine_cache_path"] == str(tmp_path)
    assert first[1]["trt_profile_max_shapes"].endswith("64x260x260x3")
    assert wanted_providers(gpu[1:], "cuda", 224, tmp_path)[0][0] == gpu[1]


@pytest.mark.parametrize("count", [1, 3, 64, 65, 130])
def test_buckets_hold_every_picture_once(count: int) -> None:
    """Batches have planned sizes only, and cutting the padding off gives the pictures back in order."""
    pixels = np.arange(count, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    parts = list(bucketed(pixels, BUCKETS))
    assert all(len(part) in BUCKETS for part in parts)
    assert np.array_equal(np.concatenate(parts)[:count], pixels)


def test_half_precision_stays_within_its_rounding(model_dir: Path, fp32: OnnxEmbedder) -> None:
    """fp16 shares fp32's fingerprint, so it must share its vectors: cosine above 0.9999."""
    half = OnnxEmbedder(build(model_dir, precision="fp16"), threads=1)
    pixels = np.stack([golden.golden_picture(224), *noise_pictures(2)])
    assert half.fingerprint == fp32.fingerprint
    assert (half.embed(pixels) * fp32.embed(pixels)).sum(1).min() > 0.9999


@pytest.mark.slow
def test_int8_stays_close_on_real_photographs(photos: Photos, fp32: OnnxEmbedder, int8: OnnxEmbedder) -> None:
    """Photographs that no range was recorded on: mean cosine to fp32 at least 0.997, the worst at least 0.96."""
    chosen = photos("groceries", "queries", 20) + photos("clothing", "queries", 20)
    pixels = np.stack([decode(photo.read()).pixels for photo in chosen])
    cosines = (fp32.embed(pixels) * int8.embed(pixels)).sum(1)
    assert cosines.mean() >= 0.997
    assert cosines.min() >= 0.96


def test_the_histogram_embedder_tells_colours_apart() -> None:
    """The small embedder of the tests keeps the same contract: unit rows, deterministic, near for near pictures."""
    embedder = HistogramEmbedder()
    red, blue = (np.full((224, 224, 3), colour, np.uint8) for colour in ((200, 10, 10), (10, 10, 200)))
    one, other, again = embedder.embed(np.stack([red, blue, red]))
    assert one.shape == (embedder.dim,)
    assert one @ again == pytest.approx(1)
    assert one @ other == pytest.approx(0)


def test_numbers_that_the_graph_does_not_hold_are_applied_before_it(tmp_path: Path, model_dir: Path) -> None:
    """Mean and deviation outside the graph give the vectors that they give inside it."""
    wanted = Preprocessing(side=8, short_side=8, mean=(127.0, 120.0, 110.0), deviation=(128.0, 64.0, 32.0))

    def graph(kind: int, first: list[onnx.NodeProto]) -> bytes:
        constants = [
            onnx.numpy_helper.from_array(np.array(value, np.float32), name)
            for name, value in (("mean", wanted.mean), ("deviation", wanted.deviation))
        ]
        nodes = [
            *first,
            onnx.helper.make_node("Flatten", ["values"], ["flat"]),
            onnx.helper.make_node("ReduceL2", ["flat"], ["norm"], axes=[1], keepdims=1),
            onnx.helper.make_node("Div", ["flat", "norm"], [OUTPUT]),
        ]
        pixels = onnx.helper.make_tensor_value_info(INPUT, kind, ["batch", 8, 8, 3])
        embedding = onnx.helper.make_tensor_value_info(OUTPUT, onnx.TensorProto.FLOAT, ["batch", 192])
        body = onnx.helper.make_graph(nodes, "tiny", [pixels], [embedding], constants)
        model = onnx.helper.make_model(body, opset_imports=[onnx.helper.make_opsetid("", 17)])
        model.ir_version = 8
        return bytes(model.SerializeToString())

    make = onnx.helper.make_node
    outside = graph(onnx.TensorProto.FLOAT, [make("Identity", [INPUT], ["values"])])
    inside = graph(
        onnx.TensorProto.UINT8,
        [
            make("Cast", [INPUT], ["floats"], to=onnx.TensorProto.FLOAT),
            make("Sub", ["floats", "mean"], ["centred"]),
            make("Div", ["centred", "deviation"], ["values"]),
        ],
    )
    plain = replace(wanted, mean=None, deviation=None)
    expected = golden_embedding(inside, plain)
    pictures = np.random.default_rng(1).integers(0, 256, (3, 8, 8, 3), np.uint8)
    found = []
    for number, (data, taken) in enumerate(((inside, plain), (outside, wanted))):
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(data)
        base = artefact.find(model_dir, precision="fp32")
        built = replace(base, path=path, dim=192, preprocessing=taken, golden=golden.pack(expected))
        found.append(OnnxEmbedder(built, threads=1).embed(pictures))
    np.testing.assert_allclose(found[0], found[1], atol=1e-6)
