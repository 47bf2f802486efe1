"""A calibration as a document: what decides, what is left out, who is told to be worst, when it is out of date."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from index.errors import RecordNotFound
from index.items import Entry
from index.limits import MAX_RECORD
from index.open import open_catalogue
from service.quality.calibrating import described
from service.quality.calibration import EASY, CalibrationRefused, Stranger, calibrate, warnings
from service.quality.catalogue import Asked, ask
from service.quality.drawn import draw
from service.quality.pairs import Genuine, PairsRefused, read_pairs, recommended
from service.search.calibrated import KIND, NAME, read
from tests.harness.catalogues import MODEL, entry, vector


def strangers(*scores: float) -> list[Stranger]:
    return [Stranger(f"{number}.jpg", score, "i") for number, score in enumerate(scores)]


def items(label: str, *scores: float) -> list[Asked]:
    return [Asked(f"{label}{number}", score, label) for number, score in enumerate(scores)]


def test_strangers_decide_and_classes_are_told() -> None:
    own = items("good", *[0.8] * 10) + items("bad", *[0.8, 0.3, 0.3, 0.3, 0.8]) + items("rare", 0.1)
    found = calibrate(
        strangers(*[number / 100 for number in range(40)]), [], own, rate=0.1, count=16, fingerprint="f", failed=[]
    )
    assert found["score_threshold"] == pytest.approx(0.3602, abs=1e-5), "the 37th of 40, and a little more"
    assert (found["false_accepts"]["hits"], found["false_accepts"]["count"]) == (3, 40)
    assert (found["kept"]["hits"], found["kept"]["count"]) == (12, 16)
    assert found["worst_class"]["label"] == "bad", "one picture makes no worst class"
    assert [each["label"] for each in found["classes"]] == ["rare", "bad", "good"]
    assert found["kept"]["low"] < 0.75 < found["kept"]["high"]
    assert found["curve"][0]["kept"] == 1 and found["curve"][-1]["false_accepts"] == 0


def test_pictures_of_the_catalogue_are_no_strangers() -> None:
    seen = strangers(*[0.2] * 19, 0.9999)
    found = calibrate(seen, [], items("a", *[0.5] * 30), rate=0.05, count=30, fingerprint="f", failed=[])
    assert found["score_threshold"] < 0.21 and found["in_catalogue_count"] == 1 and found["negatives"] == 19
    assert any("are in the catalogue" in each for each in warnings(found, 30))
    near = calibrate(
        strangers(*[0.2] * 18, 0.6), [], items("a", *[0.5] * 30), rate=0.05, count=30, fingerprint="f", failed=[]
    )
    assert [each["score"] for each in near["suspected"]] == [0.6] and near["negatives"] == 19


@pytest.mark.parametrize(
    ("scores", "failed", "words"),
    [
        ([0.1] * 98, 0, "1 % needs 99 pictures without a match, and there are 98; 98 allow 1.011 %"),
        ([0.1] * 98 + [0.99], 2, r"there are 98 \(1 are in the catalogue, 2 could not be used\); 98 allow"),
        ([], 3, r"there are 0 \(3 could not be used\)$"),
    ],
)
def test_too_few_are_refused_with_what_they_allow(scores: list[float], failed: int, words: str) -> None:
    bad = [{"name": "x", "reason": "broken"}] * failed
    with pytest.raises(CalibrationRefused, match=words):
        calibrate(strangers(*scores), [], items("a", *[0.5] * 30), rate=0.01, count=30, fingerprint="f", failed=bad)


def test_negatives_that_are_too_easy_are_told() -> None:
    far = [number / 100 for number in range(19)]
    easy = calibrate(strangers(*far), [], items("a", *[0.5] * 30), rate=0.05, count=30, fingerprint="f", failed=[])
    assert EASY in warnings(easy, 30)
    own = items("a", *[0.5] * 30, 0.1)
    met = calibrate(strangers(*far), [], own, rate=0.05, count=31, fingerprint="f", failed=[])
    assert EASY not in warnings(met, 31)


def test_every_calibration_can_be_drawn() -> None:
    far, own = strangers(*[number / 100 for number in range(19)]), items("a", *[0.5 + n / 200 for n in range(40)])
    genuine = [Genuine(f"{number}.jpg", 0.3 + number / 100, True) for number in range(40)]
    rest: dict[str, Any] = {"rate": 0.05, "count": 40, "fingerprint": "f", "failed": []}
    seen = set()
    for value in (
        calibrate(far, [], own, **rest),
        calibrate(far, genuine, own, **rest),
        calibrate(None, genuine, own, **rest),
        calibrate(None, [], own, **rest),
        calibrate(far, [], [], **rest),
        calibrate(strangers(*[0.1] * 19), [], items("a", *[0.1] * 30), **rest),
    ):
        # Calibrations of earlier versions kept no scores of genuine queries.
        for drawn in (value, {key: each for key, each in value.items() if key != "genuine"}):
            png = draw(drawn, "a shop")
            with Image.open(io.BytesIO(png)) as picture:
                assert picture.size[0] > picture.size[1] > 300
            seen.add(png)
    assert len(seen) >= 9, "what was measured is what is shown"


def test_growth_by_half_is_told() -> None:
    found = calibrate(
        strangers(*[0.2] * 19), [], items("a", *[0.5] * 30), rate=0.05, count=30, fingerprint="f", failed=[]
    )
    assert not any("again" in each for each in warnings(found, 44))
    assert any("had 30 items then and has 45 now" in each for each in warnings(found, 45))


def test_without_strangers_most_of_the_catalogue_is_kept() -> None:
    own = items("a", *[0.5 + number / 1000 for number in range(100)])
    found = calibrate(None, [], own, rate=0.01, count=100, fingerprint="f", failed=[])
    assert found["method"] == "catalogue" and found["kept"]["hits"] in (95, 96)
    with pytest.raises(CalibrationRefused, match="at least 19 are needed"):
        calibrate(None, [], own[:18], rate=0.01, count=18, fingerprint="f", failed=[])


def test_the_largest_calibration_fits_a_record() -> None:
    seen = [Stranger("n" * 200, 0.1 + number / 10**6, "i" * 128) for number in range(50_000)]
    own = [Asked(f"i{number}", 0.05 + number / 10**5, "x" * 190 + str(number)) for number in range(2_000)]
    bad = [{"name": "n" * 200, "reason": "r" * 200}] * 500
    found = calibrate(seen, [], own, rate=0.001, count=10**6, fingerprint="f", failed=bad)
    assert len(orjson.dumps(found)) < MAX_RECORD and len(found["strangers"]) == 20_000


def test_an_item_is_asked_without_itself_and_its_duplicates(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    try:
        collection, _ = catalogue.create("c", **MODEL)
        near = vector(1) + 0.3 * vector(2)
        entries = [entry("a", 1, label="x"), Entry("copy", vector(1)), Entry("near", near, {"label": ["y", "z"]})]
        collection.upsert([*entries, entry("far", 9)], fingerprint=collection.fingerprint)
        asked = {each.id: each for each in ask(collection, "label")}
        assert asked["a"].score == pytest.approx(asked["copy"].score) and asked["a"].score == pytest.approx(
            asked["near"].score, abs=1e-3
        )
        assert (asked["a"].label, asked["near"].label, asked["far"].label) == ("x", "y", "")
        assert 0.9 < asked["a"].score < 0.98
    finally:
        catalogue.close()


def test_pairs_tell_what_is_kept_and_where_both_part_best() -> None:
    genuine = [Genuine(f"{number}.jpg", 0.3 + number / 100, number % 2 == 0) for number in range(40)]
    unlike = strangers(*[number / 100 for number in range(40)])
    found = calibrate(unlike, genuine, items("a", *[0.9] * 30), rate=0.1, count=30, fingerprint="f", failed=[])
    assert found["kept_of"] == "pairs" and (found["kept"]["hits"], found["kept"]["count"]) == (33, 40)
    assert found["nearest_right"]["hits"] == 20
    point = found["recommended"]
    assert point["score_threshold"] == pytest.approx(0.4) or point["kept"]["value"] - point["false_accepts"][
        "value"
    ] == (pytest.approx(0.75))
    alone = calibrate(None, genuine, [], rate=0.1, count=30, fingerprint="f", failed=[])
    assert alone["method"] == "pairs" and alone["kept"]["value"] >= 0.95 and alone["recommended"] is None
    with pytest.raises(CalibrationRefused, match="pairs alone need at least 19"):
        calibrate(None, genuine[:5], items("a", *[0.9] * 30), rate=0.1, count=30, fingerprint="f", failed=[])


@given(
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40),
    st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=40),
)
def test_no_threshold_parts_better_than_the_recommended_one(genuine: list[float], unlike: list[float]) -> None:
    own, other = np.array(genuine, np.float32), np.array(unlike, np.float32)
    point = recommended(own, other)
    assert point is not None
    gained = float((own >= point.score_threshold).mean() - (other >= point.score_threshold).mean())
    assert gained == pytest.approx(point.kept.value - point.false_accepts.value)
    for least in [*own, *other]:
        assert (own >= least).mean() - (other >= least).mean() <= gained + 1e-9


def test_a_table_of_pairs_is_read_as_people_save_it() -> None:
    read = read_pairs("\ufeffLabel;Image;note\r\nshoe;a\\b.jpg;x\r\n;;\r\nhat;./c.jpg\r\n".encode())
    assert [(each.picture, each.id, each.label) for each in read] == [("a/b.jpg", "", "shoe"), ("c.jpg", "", "hat")]
    (one, *_) = read_pairs(b"image,id,label\nx.jpg,i1,shoe\nx.jpg,i1,shoe\n")
    assert (one.id, one.label) == ("i1", "")
    for data, words in (
        (b"", "first line must name"),
        (b"image\nx.jpg\n", "first line must name"),
        (b"image,id\n", "no line beside"),
        (b"image,id\nx.jpg,\n", "line 2 lacks"),
        (b"image,id\nx.jpg,a\nx.jpg,b\n", "line 3 says something else of x.jpg"),
        (b"image,id\n\xff\xfe,a\n", "no UTF-8"),
        (b'image,id\n"' + b"x" * 140_000 + b'",a\n', "cannot be read"),
    ):
        with pytest.raises(PairsRefused, match=words):
            read_pairs(data)


def test_a_calibration_of_another_model_is_not_in_force(tmp_path: Path) -> None:
    catalogue = open_catalogue(tmp_path)
    try:
        collection, _ = catalogue.create("c", **MODEL)
        value = {"score_threshold": 0.5, "strangers": [0.1], "fingerprint": "another"}
        collection.records.put(KIND, NAME, value)
        assert read(collection) is None
        with pytest.raises(RecordNotFound):
            described(collection)
        collection.records.put(KIND, NAME, {**value, "fingerprint": collection.fingerprint})
        assert read(collection) is not None
    finally:
        catalogue.close()


def test_a_long_cell_is_refused_whatever_tables_of_pictures_were_read_before() -> None:
    csv.field_size_limit(2**26)
    with pytest.raises(PairsRefused, match="more than 4,096"):
        read_pairs(b"image,id\n" + b"x" * 5_000 + b",a\n")
