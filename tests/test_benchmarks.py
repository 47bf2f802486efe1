"""The benchmarks' own arithmetic: figures are only worth what computes them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import bare, report, retrieval
from benchmarks.wire import distinct
from models.pictures.image import decode
from tests.harness.pictures import jpeg


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    """Recording twice under one name keeps one section, in its place."""
    path = tmp_path / "RESULTS.md"
    for figure in (1.0, 2.0):
        report.record("first", title="First", columns=["what", "figure"], rows=[["a", figure]], path=path)
        report.record("second", title="Second", columns=["what", "figure"], rows=[["b|c", 30_000]], path=path)
    text = path.read_text()
    assert text.count("## First") == 1 and text.count("## Second") == 1
    assert text.index("## First") < text.index("## Second")
    assert "| a | 2.00 |" in text and "| a | 1.00 |" not in text
    assert "| b\\|c | 30,000 |" in text


def test_recall_and_precision_by_hand() -> None:
    """Hits at ranks 1 and 3 give an average precision of (1 + 2/3) / 2; a query without relatives does not count."""
    catalogue = np.eye(4, dtype=np.float32)
    queries = np.array([[0.9, 0.8, 0.7, 0.6], [0.1, 0.2, 0.9, 0.3]], dtype=np.float32)
    found = retrieval.quality(catalogue, np.array(["x", "y", "x", "y"]), queries, np.array(["x", "unseen"]))
    assert found["recall_at_1"] == 1
    assert found["mean_average_precision"] == pytest.approx((1 + 2 / 3) / 2)


def test_distinct_pictures_differ_in_bytes_only() -> None:
    """The load client's copies defeat a cache and show the same picture."""
    original = jpeg(1)
    copies = {distinct(original, number) for number in range(5)}
    assert len(copies) == 5
    for copy in copies:
        assert np.array_equal(decode(copy).pixels, decode(original).pixels)


def test_the_naive_decoder_is_a_fair_opponent() -> None:
    """What the service is held against sees the same picture: a grey level or two apart, at the same place."""
    picture = jpeg(2, (900, 600))
    apart = np.abs(bare.naive_decode(picture).astype(int) - decode(picture).pixels.astype(int))
    assert apart.mean() < 2


def test_the_large_photograph_is_twelve_megapixels() -> None:
    """Pieced together to the last row."""
    with Image.open(io.BytesIO(bare.large_photograph([jpeg(number) for number in range(3)]))) as sheet:
        assert sheet.size == (4000, 3000)
        assert np.asarray(sheet)[-1].std() > 5
