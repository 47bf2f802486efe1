"""A picture is what a browser shows: Chromium and the decoder see the same in every file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from playwright.sync_api import Browser, Page

from models import artefact
from models.pictures.image import decode
from models.runtimes.onnxruntime import OnnxEmbedder
from tests.harness import wild
from tests.harness.browser import show, viewer
from tests.harness.wild.case import Wild, encode

pytestmark = [pytest.mark.browser, pytest.mark.slow]

Embed = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
# Chromium leaves the last rows of a JPEG white that has no end mark; all else is rounding.
ALIKE = 0.97
SAME_COLOURS = 0.995
# Levels of 255, on average.
ROUNDING = 0.1


@pytest.fixture(scope="module")
def page(browser: Browser) -> Iterator[Page]:
    with viewer(browser) as page:
        yield page


@pytest.fixture(scope="module")
def embed(model_dir: Path) -> Embed:
    found = artefact.find(model_dir, model="resnet50", precision="fp32")
    embedder = OnnxEmbedder(found, threads=1, device="cpu")
    return lambda pixels: embedder.embed(pixels[None])[0]


def as_png(picture: Image.Image) -> bytes:
    return encode(picture, "PNG", compress_level=1)


@pytest.mark.parametrize("file", [each for each in wild.shown() if each.browser], ids=str)
def test_a_browser_shows_what_is_embedded(page: Page, embed: Embed, file: Wild) -> None:
    seen = show(page, file.data, file.kind)
    assert seen is not None
    found, expected = decode(file.data).pixels, decode(as_png(seen)).pixels
    if np.abs(found.astype(int) - expected).mean() > ROUNDING:
        assert float(embed(found) @ embed(expected)) > ALIKE


@pytest.mark.parametrize("file", wild.coloured(), ids=str)
def test_a_browser_shows_the_same_colours(page: Page, embed: Embed, file: Wild) -> None:
    seen = show(page, file.data, file.kind)
    assert seen is not None
    assert float(embed(decode(file.data).pixels) @ embed(decode(as_png(seen)).pixels)) > SAME_COLOURS


@pytest.mark.parametrize("file", wild.refused(), ids=str)
def test_what_is_refused_a_browser_shows_differently_or_not_at_all(page: Page, file: Wild) -> None:
    """No file is refused of which Chromium shows every pixel."""
    seen = show(page, file.data, file.kind)
    whole = show(page, file.plain, file.kind)
    assert whole is not None
    if seen is not None and seen.size == whole.size:
        assert not np.array_equal(np.asarray(seen), np.asarray(whole))
