"""What people have is what they see: odd files give the pixels of the plain picture, short ones are refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from models.errors import UndecodableImage
from models.pictures.image import decode
from tests.harness import wild
from tests.harness.wild.case import Wild

# Lossy copies of sharp shapes differ by so many levels on average.
LOSSY = 4.0


@pytest.mark.parametrize("file", wild.shown(), ids=str)
def test_an_odd_file_gives_the_pixels_of_the_plain_picture(file: Wild) -> None:
    found, plain = decode(file.data, thumbnail=True), decode(file.plain)
    assert (found.format, found.width, found.height) == (file.kind, plain.width, plain.height)
    assert np.abs(found.pixels.astype(int) - plain.pixels).mean() < LOSSY


@pytest.mark.parametrize("file", wild.coloured(), ids=str)
def test_colours_are_those_that_the_profile_means(file: Wild) -> None:
    found, plain = decode(file.data, thumbnail=True), decode(file.plain, thumbnail=True)
    assert np.abs(found.pixels.astype(int) - plain.pixels).mean() < LOSSY
    assert found.thumbnail is not None and plain.thumbnail is not None
    assert b"ICCP" not in found.thumbnail
    small, expected = (np.asarray(Image.open(io.BytesIO(each))) for each in (found.thumbnail, plain.thumbnail))
    assert np.abs(small.astype(int) - expected).mean() < LOSSY


@pytest.mark.parametrize("file", wild.refused(), ids=str)
def test_a_file_that_breaks_off_is_refused(file: Wild) -> None:
    decode(file.plain)
    with pytest.raises(UndecodableImage):
        decode(file.data)
