"""Preprocessing: what a network takes, as a value, and as pixels under each of its rules."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from models.pictures.image import decode
from models.preprocessing import FILTERS, LARGEST_SIDE, PAD_COLOUR, RULES, Preprocessing
from tests.models.test_image import difference, encode, scene, shown

PLAIN = Preprocessing()
OTHERS = [
    replace(PLAIN, side=260, short_side=292),
    replace(PLAIN, short_side=292),
    replace(PLAIN, rule="squash"),
    replace(PLAIN, rule="pad"),
    replace(PLAIN, filter="bilinear"),
    replace(PLAIN, mean=(127.0, 127.0, 127.0), deviation=(128.0, 128.0, 128.0)),
    replace(PLAIN, version="pixels-2"),
]


def test_what_decides_a_vector_is_in_the_identity() -> None:
    """The first model's is the word that its fingerprints were made with; any other field gives another."""
    assert PLAIN.identity == "pixels-1"
    assert len({each.identity for each in (PLAIN, *OTHERS)}) == len(OTHERS) + 1


@pytest.mark.parametrize("value", [PLAIN, *OTHERS], ids=lambda value: value.identity)
def test_it_survives_a_manifest(value: Preprocessing) -> None:
    """Through JSON text and back, also the numbers."""
    assert Preprocessing.parse(json.loads(json.dumps(value.as_json()))) == value


@pytest.mark.parametrize(
    "wrong",
    [
        {"side": 0},
        {"side": LARGEST_SIDE + 1, "short_side": 2 * LARGEST_SIDE},
        {"side": 224.0},
        {"side": True},
        {"side": "224"},
        {"short_side": 223},
        {"short_side": 10**9},
        {"rule": "stretch"},
        {"filter": "nearest"},
        {"mean": [0, 0, 0]},
        {"deviation": [1, 1, 1]},
        {"mean": [0, 0, 0], "deviation": [1, 0, 1]},
        {"mean": [0, float("nan"), 0], "deviation": [1, 1, 1]},
        {"mean": [0, 0], "deviation": [1, 1, 1]},
    ],
    ids=str,
)
def test_values_that_cannot_be_carried_out_are_refused(wrong: dict[str, Any]) -> None:
    """A damaged manifest gives no preprocessing, rather than pixels of another shape."""
    with pytest.raises((ValueError, TypeError)):
        Preprocessing.parse(PLAIN.as_json() | wrong)


def textbook(image: Image.Image, wanted: Preprocessing) -> np.ndarray:
    """The frame in whole, then its middle: the slow way that every paper describes."""
    frame = (wanted.short_side, wanted.short_side)
    resampling = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}.get(
        wanted.filter, Image.Resampling.LANCZOS
    )
    if wanted.rule == "squash":
        framed = image.resize(frame, resampling)
    elif wanted.rule == "pad":
        framed = ImageOps.pad(image, frame, resampling, PAD_COLOUR)
    else:
        framed = ImageOps.fit(image, frame, resampling)
    edge = (wanted.short_side - wanted.side) / 2
    box = (edge, edge, edge + wanted.side, edge + wanted.side)
    return np.asarray(framed.transform((wanted.side, wanted.side), Image.Transform.EXTENT, box))


@pytest.mark.parametrize("size", [(320, 240), (240, 320), (300, 300), (1500, 500), (90, 130)], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("side", "short_side"), [(224, 256), (260, 260), (64, 96)])
def test_pixels_are_what_the_rule_says(size: tuple[int, int], rule: Any, side: int, short_side: int) -> None:
    """Crop fills the frame, squash bends the picture into it, pad adds a border; each as the textbook does it."""
    wanted = Preprocessing(side=side, short_side=short_side, rule=rule)
    image = scene(*size)
    found = decode(encode(image, "PNG"), preprocessing=wanted).pixels
    assert found.shape == (side, side, 3)
    assert difference(found, textbook(image, wanted)) < 2.5
    for other in RULES:
        if other != rule and size[0] != size[1]:
            assert difference(found, textbook(image, replace(wanted, rule=other))) > 4


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (4000, 3), (3, 4000), (223, 225)], ids=str)
def test_thin_and_tiny_pictures_fit_too(rule: Any, size: tuple[int, int]) -> None:
    """One colour stays that colour, whatever the shape; only pad shows its border."""
    colour = (10, 200, 30)
    wanted = Preprocessing(rule=rule, side=65, short_side=65)
    found = decode(encode(Image.new("RGB", size, colour), "PNG"), preprocessing=wanted).pixels
    own = (np.abs(found.astype(int) - colour).max(2) <= 1).mean()
    border = (found == PAD_COLOUR).all(2).mean()
    assert own + border == 1
    assert own > 0
    assert (border > 0) == (rule == "pad" and size[0] != size[1])


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("turn", range(2, 9))
def test_a_turned_copy_is_the_same_picture(rule: Any, turn: int) -> None:
    """EXIF orientation is carried out before the border is added, so an odd border lies on the same side."""
    upright = scene(331, 240)
    exif = Image.Exif()
    exif[0x0112] = turn
    back = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}[turn]
    stored = ImageOps.exif_transpose(_tagged(upright, back))
    wanted = Preprocessing(rule=rule, side=97, short_side=97)
    found = decode(encode(stored, "PNG", exif=exif), preprocessing=wanted).pixels
    assert difference(found, decode(encode(upright, "PNG"), preprocessing=wanted).pixels) < 0.6


def _tagged(image: Image.Image, orientation: int) -> Image.Image:
    copy = image.copy()
    copy.getexif()[0x0112] = orientation
    return copy


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("short_side", [32, 100, 256, 700])
def test_asking_for_a_thumbnail_changes_no_pixel(kind: str, rule: Any, short_side: int) -> None:
    """A vector is the same whether its thumbnail was made along with it, and the thumbnail is never a blurred one."""
    data = encode(scene(2400, 1600), kind)
    wanted = Preprocessing(rule=rule, side=short_side, short_side=short_side)
    with_one = decode(data, preprocessing=wanted, thumbnail=True)
    assert np.array_equal(with_one.pixels, decode(data, preprocessing=wanted).pixels)
    assert with_one.thumbnail == decode(data, preprocessing=wanted, thumbnail=True).thumbnail
    assert difference(shown(with_one.thumbnail), shown(decode(data, thumbnail=True).thumbnail)) < 2


def test_each_filter_is_its_own() -> None:
    """Bilinear, bicubic and lanczos differ where there is detail."""
    rng = np.random.default_rng(3)
    data = encode(Image.fromarray(rng.integers(0, 256, (300, 300, 3), np.uint8)), "PNG")
    found = [decode(data, preprocessing=replace(PLAIN, filter=each)).pixels for each in FILTERS]
    assert all(difference(one, other) > 0.5 for one, other in itertools.combinations(found, 2))
