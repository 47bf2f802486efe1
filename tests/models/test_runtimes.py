"""Ways to run a model: probed in a process that may die, chosen by speed, kept for this machine alone."""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest

from models import artefact, golden
from models.artefact import Artefact
from models.build.build import build
from models.errors import DeviceUnavailable
from models.runtimes import openvino
from models.runtimes.choose import Measured, best, measured, probe
from models.runtimes.onnxruntime import OnnxEmbedder
from models.runtimes.openvino import BATCHES, OpenVinoEmbedder
from models.runtimes.processor import processor_model
from models.runtimes.ways import Way, file_of, ways_of

PLAIN, INT8 = Way("onnxruntime", "fp32"), Way("onnxruntime", "int8")
BF16, BOTH = Way("openvino", "fp32", "bf16"), Way("openvino", "int8", "bf16")


@pytest.fixture(scope="module")
def int8(model_dir: Path) -> Artefact:
    return build(model_dir, precision="int8")


@pytest.mark.parametrize("name", ["resnet50", "efficientnet-lite2"])
def test_shifted_weights_give_the_same_vectors(light_dir: Path, name: str) -> None:
    """w − 1 with zero point −1 is the same network to the bit, one picture or several, and so is its map."""
    built = build(light_dir, model=name, precision="int8")
    plain, moved = (OnnxEmbedder(built, threads=1, kernels=kernels) for kernels in ("plain", "amx"))
    side = built.preprocessing.side
    noise = np.random.default_rng(3).integers(0, 256, (3, side, side, 3), dtype=np.uint8)
    pixels = np.concatenate([golden.golden_picture(side)[None], noise])
    np.testing.assert_array_equal(moved.embed(pixels), plain.embed(pixels))
    for found, expected in zip(moved.embed_with_map(pixels), plain.embed_with_map(pixels), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_weights_are_really_shifted(int8: Artefact) -> None:
    """Every ordinary convolution of ResNet50 has zero point −1 afterwards, and none its old weights."""
    import onnx
    from onnx import numpy_helper

    from models.graphs.shifted import shifted

    before = {each.name: numpy_helper.to_array(each) for each in onnx.load(int8.path).graph.initializer}
    after = {
        each.name: numpy_helper.to_array(each)
        for each in onnx.load_from_string(shifted(int8.path.read_bytes())).graph.initializer
    }
    kernels = [name for name in before if name.endswith("/kernel")]
    assert len(kernels) == 53
    for name in kernels:
        assert (after[f"{name}_zero"] == -1).all()
        np.testing.assert_array_equal(after[name].astype(int), before[name].astype(int) - 1)


def test_the_ways_of_a_file() -> None:
    """The plainest first; AMX for int8 alone, OpenVINO where it is installed, half precision only plainly."""
    assert ways_of("int8", amx=False, openvino=False) == [INT8]
    assert ways_of("int8", amx=True, openvino=False) == [INT8, Way("onnxruntime", "int8", "amx")]
    assert ways_of("fp32", amx=True, openvino=True) == [PLAIN, Way("openvino", "fp32", "f32"), BF16]
    assert ways_of("fp16", amx=True, openvino=True) == [Way("onnxruntime", "fp16")]
    assert [way.precision for way in (PLAIN, INT8, BF16, BOTH)] == ["fp32", "int8", "bf16", "int8"]
    assert [file_of(each) for each in ("bf16", "fp32", "int8")] == ["fp32", "fp32", "int8"]


def test_the_fastest_is_chosen_and_a_small_gain_is_none() -> None:
    """What is refused never is; a plainer way stays where another is not a tenth faster."""
    rows = [Measured(PLAIN, 20), Measured(BF16, 110, 146), Measured(INT8, 60), Measured(BOTH, 139, 156)]
    assert best(rows).way == BF16
    assert best([*rows[:3], Measured(BOTH, 139, 170)]).way == BOTH
    assert best(rows, runtime="onnxruntime").way == INT8
    assert best(rows, precision="int8").way == BOTH
    assert best(rows, precision="bf16").batches
    assert not best(rows, precision="fp32").batches
    lame = [rows[0], Measured(BF16, refused="it died of SIGILL"), Measured(INT8, 10)]
    assert best(lame).way == PLAIN
    with pytest.raises(DeviceUnavailable, match="SIGILL"):
        best(lame, precision="bf16")
    with pytest.raises(DeviceUnavailable, match="LOOKALIKE_PRECISION=fp32"):
        best([rows[0]], precision="bf16")
    with pytest.raises(DeviceUnavailable, match=openvino.PACKAGE):
        best([rows[0]], runtime="openvino")


def test_a_probe_measures_in_a_process_of_its_own(int8: Artefact) -> None:
    """The real int8 file gives a speed, alone and by eights."""
    found = probe(int8, INT8)
    assert found.refused is None
    assert min(found.single, found.batched) > 0


def test_what_goes_wrong_in_a_probe_costs_the_probe(int8: Artefact, tmp_path: Path) -> None:
    """Too slow, another network, no manifest: each is refused in one line."""
    assert "more than 0.01 seconds" in str(probe(int8, INT8, seconds=0.01).refused)
    folder = tmp_path / "model"
    folder.mkdir()
    manifest = json.loads(int8.manifest.read_bytes())
    manifest["golden"] = golden.pack(-golden.unpack(int8.golden))
    (folder / "int8.json").write_text(json.dumps(manifest))
    (folder / "int8.onnx").symlink_to(int8.path.absolute())
    wrong = artefact.read_manifest(folder / "int8.json")
    assert "computes something else" in str(probe(wrong, INT8).refused)
    (folder / "int8.json").unlink()
    assert "manifest" in str(probe(wrong, INT8).refused)


def test_a_probe_that_faults_is_refused(int8: Artefact) -> None:
    """A real SIGSEGV in the middle of it is named, and harms nobody else."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(probe, int8, INT8)
        while not (children := psutil.Process().children()):
            assert not running.done()
            time.sleep(0.01)
        time.sleep(0.1)
        children[0].send_signal(signal.SIGSEGV)
        assert running.result().refused == "it died of SIGSEGV"


def test_what_was_measured_is_kept_for_this_machine(int8: Artefact, tmp_path: Path) -> None:
    """Read again without a probe; anew for another file, other ways, or a note that is damaged or says nonsense."""
    said: list[str] = []
    places = [tmp_path / "data", tmp_path / "models"]
    first = measured(int8, [INT8], places, say=said.append)
    note = next((tmp_path / "models").glob("runtime-*.json"))
    assert processor_model() in json.loads(note.read_text())["key"]
    marked = json.loads(note.read_text())
    marked["measured"][0]["single"] = 12345.0
    note.write_text(json.dumps(marked))
    assert measured(int8, [INT8], places, say=said.append)[0].single == 12345.0
    for text in ("", "[]", "{", json.dumps(marked | {"key": "another"}), json.dumps(marked | {"measured": [{}]})):
        note.write_text(text)
        again = measured(int8, [INT8], places, say=said.append)[0]
        assert again.refused is None
        assert again.single not in (0.0, 12345.0)
    assert first[0].way == INT8
    assert said == []


def test_openvino_runs_or_says_why_not(model_dir: Path) -> None:
    """Where its provider offers itself: golden vectors, batches of any number, maps. Elsewhere one line."""
    built = artefact.find(model_dir, precision="fp32")
    try:
        embedder = OpenVinoEmbedder(built, BF16, threads=1, batches=BATCHES)
    except DeviceUnavailable as refused:
        assert "\n" not in str(refused)
        assert openvino.PACKAGE in str(refused)
        assert str(refused) in str(probe(built, BF16).refused)
        return
    plain = OnnxEmbedder(built, threads=1)
    pixels = np.random.default_rng(5).integers(0, 256, (13, 224, 224, 3), dtype=np.uint8)
    pixels[:, ::2] = golden.golden_picture(224)[::2]
    found = embedder.embed(pixels)
    assert found.shape == (13, built.dim)
    assert ((found * plain.embed(pixels)).sum(1) > 0.999).all()
    np.testing.assert_allclose(found[12:], embedder.embed(pixels[12:]), atol=2e-3)
    vectors, maps = embedder.embed_with_map(pixels[:2])
    assert maps.shape == (2, 7, 7, built.dim)
    assert ((vectors * found[:2]).sum(1) > 0.999).all()
    assert embedder.fingerprint == built.fingerprint
    assert embedder.precision == "bf16"
