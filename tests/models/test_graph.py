"""The graph: what goes in, what comes out, and what stays inside it."""

from __future__ import annotations

import hashlib

import numpy as np
import onnx
import onnxruntime
import pytest

from models import golden
from models.backbones.resnet50.graph import build_graph, read_network
from models.embedder import INPUT, OUTPUT
from models.errors import ArtefactCorrupt
from tests.harness.networks import noise_pictures, tiny_network


def run(model: onnx.ModelProto, pixels: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: np.ndarray = session.run([OUTPUT], {INPUT: pixels})[0]
    return found


def test_bytes_go_in_and_unit_vectors_come_out() -> None:
    """uint8 NHWC with any batch size; float32 rows of length 1."""
    model = build_graph(tiny_network())
    (pixels,), (embedding,) = model.graph.input, model.graph.output
    assert pixels.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert embedding.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert [axis.dim_value or axis.dim_param for axis in pixels.type.tensor_type.shape.dim] == ["batch", 224, 224, 3]
    for count in (1, 3):
        found = run(model, np.stack(list(noise_pictures(count))))
        assert found.shape == (count, 128)
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_the_mean_is_subtracted_before_the_border_is_added() -> None:
    """A picture of the mean colour is zero everywhere, borders too: only biases speak, the same at every position."""
    network = tiny_network()
    level = np.full((1, 224, 224, 3), np.array(network.mean), np.uint8)
    model = build_graph(network)
    model.graph.output.append(onnx.helper.make_tensor_value_info("conv1_linear", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    first = session.run(["conv1_linear"], {INPUT: level})[0]
    np.testing.assert_allclose(first.std((0, 2, 3)), 0, atol=1e-6)


def test_half_precision_gives_nearly_the_same() -> None:
    """float16 inside, float32 outside."""
    pixels = np.stack(list(noise_pictures(3)))
    whole, half = (run(build_graph(tiny_network(), half=half), pixels) for half in (False, True))
    assert half.dtype == np.float32
    assert (whole * half).sum(1).min() > 0.9999


def test_strides_of_both_layouts_differ() -> None:
    """The same weights with the stride on the 3×3 convolution are another network."""
    pixels = np.stack(list(noise_pictures(1)))
    early, late = (run(build_graph(tiny_network(late_stride=late)), pixels) for late in (False, True))
    assert np.abs(early - late).max() > 1e-3


def test_a_network_survives_its_graph() -> None:
    """Other precisions are derived from the fp32 file, so nothing may be lost in it."""
    network = tiny_network()
    again = read_network(
        build_graph(network), mean=network.mean, late_stride=network.late_stride, source=network.source
    )
    assert again.digest() == network.digest()


def test_the_golden_picture_is_the_same_everywhere() -> None:
    """Drawn with integers: its bytes are pinned, and a change of them would void every golden embedding."""
    picture = golden.golden_picture(224)
    assert picture.shape == (224, 224, 3)
    assert picture.dtype == np.uint8
    digest = hashlib.sha256(picture.tobytes()).hexdigest()
    assert digest[:16] == "081b47f86c72448e"
    assert picture.std() > 30


def test_golden_check_tells_same_from_other() -> None:
    """Rounding passes; another direction, another length of vector, zero and NaN do not."""
    vector = np.linspace(-1, 1, 64, dtype=np.float32)
    golden.check(golden.unpack(golden.pack(vector)), vector, "fp32", "here")
    for other in (vector[::-1], vector[:32], vector * 0, vector * np.nan):
        with pytest.raises(ArtefactCorrupt, match=r"^here "):
            golden.check(other, vector, "int8", "here")
