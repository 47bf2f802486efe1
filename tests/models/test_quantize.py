"""int8: integers all the way, close to the network it came from, built without pictures."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backbones.activations import Activations, dumps, kept_range, loads, stored
from models.backbones.integer import quantized
from models.backbones.resnet50.activations import quantised_tensors, record
from models.backbones.resnet50.builder import TABLE
from models.backbones.resnet50.graph import build_graph
from models.backbones.resnet50.quantize import build_int8
from models.backbones.resnet50.weights import Network
from models.embedder import INPUT, OUTPUT
from models.errors import ArtefactCorrupt
from tests.harness.networks import noise_pictures, tiny_network


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([OUTPUT], {INPUT: pixels})[0]
    return found


@pytest.fixture(scope="module", params=[False, True], ids=["keras strides", "torchvision strides"])
def network(request: pytest.FixtureRequest) -> Network:
    return tiny_network(late_stride=request.param)


@pytest.fixture(scope="module")
def recorded(network: Network) -> Activations:
    return record(network, np.stack(list(noise_pictures(8, seed=1))))


def test_int8_is_close_to_the_network_it_came_from(network: Network, recorded: Activations) -> None:
    """Other pictures than those recorded: cosine above 0.99 in a network of four channels, where each one counts."""
    pixels = np.stack(list(noise_pictures(6, seed=2)))
    cosines = (run(build_int8(network, recorded), pixels) * run(build_graph(network), pixels)).sum(1)
    assert cosines.min() > 0.99


def test_every_convolution_is_integer(
    network: Network, recorded: Activations, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """onnxruntime fuses all 53 and every residual addition: none is left in floating point."""
    target = tmp_path_factory.mktemp("fused") / "fused.onnx"
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    data = build_int8(network, recorded).SerializeToString()
    onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(target).graph.node]
    assert kinds.count("QLinearConv") == 53
    assert kinds.count("QLinearAdd") == 16
    assert not {"Conv", "Add", "Relu", "QuantizeLinear"} & set(kinds)


def test_correcting_the_bias_helps(network: Network, recorded: Activations) -> None:
    """Without the recorded means the embedding is further off, on average over pictures."""
    pixels = np.stack(list(noise_pictures(6, seed=3)))
    still: Mapping[str, np.ndarray] = {name: np.zeros_like(mean) for name, mean in recorded.means.items()}
    plain = Activations(recorded.network, recorded.pictures, still, recorded.ranges)
    exact = run(build_graph(network), pixels)
    with_means = (run(build_int8(network, recorded), pixels) * exact).sum(1).mean()
    assert with_means > (run(build_int8(network, plain), pixels) * exact).sum(1).mean()


def test_the_table_survives_its_json(network: Network, recorded: Activations) -> None:
    """What is read back builds the same file, and reading and writing again changes nothing any more."""
    once = loads(dumps(recorded))
    twice = loads(dumps(once))
    assert once.ranges == twice.ranges
    for name, mean in once.means.items():
        np.testing.assert_array_equal(mean, twice.means[name])
        np.testing.assert_allclose(mean, recorded.means[name], rtol=0.03, atol=1e-3 * recorded.means[name].max())
    assert build_int8(network, once).SerializeToString() == build_int8(network, twice).SerializeToString()


def test_the_stored_table_is_small_and_whole() -> None:
    """A range for each of the 69 quantised tensors, and under 64 kB."""
    table, identity = stored(TABLE)
    assert set(table.ranges) == set(quantised_tensors())
    assert len(table.ranges) == 69
    assert len(identity) == 12
    assert len(dumps(table)) < 64_000


@pytest.mark.parametrize(
    "text", [b"", b"{}", b"[]", b'{"network": 1, "pictures": 2, "ranges": {"a": [1]}, "means": {}}']
)
def test_a_damaged_table_is_refused(text: bytes) -> None:
    """One line instead of a KeyError."""
    with pytest.raises(ArtefactCorrupt, match="table of activations is damaged"):
        loads(text)


@given(st.integers(0, 2**32 - 1), st.floats(1e-6, 1e4))
def test_weights_round_to_the_nearest_step(seed: int, size: float) -> None:
    """Each weight is at most half a step of its channel off, and the largest is hit exactly."""
    kernel = np.random.default_rng(seed).normal(0, size, (3, 2, 3, 3))
    steps, scale = quantized(kernel)
    assert steps.dtype == np.int8
    assert np.abs(steps).max((1, 2, 3)).tolist() == [127, 127, 127]
    wide = scale.astype(np.float64)[:, None, None, None]
    assert (np.abs(steps * wide - kernel) <= wide * 0.5001).all()


def test_the_range_leaves_out_outliers_but_not_zero() -> None:
    """The quantile is taken over what fires; ranges of signed tensors keep zero inside."""
    counts = np.zeros(1001, np.int64)
    counts[0], counts[1:101], counts[1000] = 10**9, 1000, 1
    low, high = kept_range(counts, 0.0, 1000.0, quantile=0.9999)
    assert low == 0
    assert 100 <= high <= 102
    counts[:] = 0
    counts[500:600], counts[0], counts[1000] = 1000, 1, 1
    low, high = kept_range(counts, -500.0, 500.0, quantile=0.999)
    assert low == 0
    assert 99 <= high <= 102
