# ruff: noqa: E501 (rows of a feed)
"""Feeds of shops: recognised by their columns, every picture of a product an item of that product."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.imports.sources.opening import open_pictures
from service.imports.sources.source import REASONS, Source, SourceError
from tests.harness.soak import examples
from tests.harness.targets import Memory, imported

SHOPIFY = """Handle,Title,Body (HTML),Vendor,Type,Tags,Published,Option1 Name,Option1 Value,Variant SKU,Variant Grams,Variant Price,Image Src,Image Position,Variant Image,Variant Barcode
red-shoe,Red shoe,"<p>two
lines</p>",Acme,Shoes,"summer, red",true,Size,40,0040,500,49.90,https://cdn.example/b.jpg,2,,0012345678905
red-shoe,,,,,,,,41,0041,510,51,https://cdn.example/a.jpg,1,,
red-shoe,,,,,,,,,,,,https://cdn.example/c.jpg,3,,
bag,Bag,,Acme,Bags,,false,Title,Default Title,7,,20.00,https://cdn.example/bag.jpg,1,https://cdn.example/bag.jpg,
none,No picture,,,,,,,,,,,,,,
"""
GOOGLE = (
    "id\ttitle\timage link\tadditional image link\tprice\tavailability\tgtin\titem group id\n"
    "A-1\tShirt\thttps://cdn.example/1.jpg\thttps://cdn.example/2.jpg,https://cdn.example/3.jpg\t15.00 USD\tin_stock\t42\tG\n"
    "B 2/x\tHat\thttps://cdn.example/4.jpg\t\t9 EUR\tout_of_stock\t\t\n"
)
RSS = """<?xml version="1.0"?>
<rss version="2.0" xmlns:g="http://base.google.com/ns/1.0"><channel><title>Shop</title><link>https://shop.example</link>
<item><g:id>A-1</g:id><title>Shirt &amp; tie</title><link>https://shop.example/a</link>
<g:image_link>https://cdn.example/1.jpg</g:image_link><g:additional_image_link>https://cdn.example/2.jpg</g:additional_image_link>
<g:additional_image_link>https://cdn.example/3.jpg</g:additional_image_link><g:price>15.00 USD</g:price>
<g:brand>Acme</g:brand></item>
<item><g:id>B</g:id><g:title><![CDATA[Hat]]></g:title><title>of RSS</title></item>
<item><g:id>C</g:id><g:image_link>ftp://x/y</g:image_link></item></channel></rss>"""
ATOM = """<feed xmlns="http://www.w3.org/2005/Atom" xmlns:g="http://base.google.com/ns/1.0"><title>Shop</title><id>urn:shop</id>
<entry><id>urn:1</id><g:id>A</g:id><title>T</title><link href="https://shop.example/a"/>
<g:image_link>https://cdn.example/1.jpg</g:image_link></entry></feed>"""


def of(file: Path, text: str | bytes, *, prefix: str = "") -> list[Source]:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    pictures = open_pictures(file, prefix=prefix)
    found = list(pictures.sources())
    assert pictures.count == len(found)
    return found


def shown(sources: list[Source]) -> list[tuple[str, str, int | None]]:
    return [(each.id, each.url.rpartition("/")[2], each.row) for each in sources]


def bad(sources: list[Source]) -> list[tuple[str, str, int | None]]:
    return [(row.id, row.slug, row.row) for row in imported(sources, Memory()).bad if row.slug != "url-refused"]


def test_shopify(tmp_path: Path) -> None:
    found = of(tmp_path / "products_export.csv", SHOPIFY)
    assert shown(found) == [
        ("red-shoe", "a.jpg", 4),
        ("red-shoe:2", "b.jpg", 2),
        ("red-shoe:3", "c.jpg", 5),
        ("bag", "bag.jpg", 6),
        ("none", "", 7),
    ]
    assert bad(found) == [("none", "missing-image", 7)]
    assert found[0].metadata == found[2].metadata == {
        "product_id": "red-shoe", "title": "Red shoe", "body_html": "<p>two\nlines</p>", "vendor": "Acme",
        "type": "Shoes", "tags": ["summer", "red"], "published": True, "option1_name": "Size", "option1_value": "40",
        "variant_sku": "0040", "variant_grams": 500, "variant_price": 49.9, "variant_barcode": "0012345678905",
        "variants": [
            {"option1_value": "40", "variant_sku": "0040", "variant_grams": 500, "variant_price": 49.9,
             "variant_barcode": "0012345678905"},
            {"option1_value": "41", "variant_sku": "0041", "variant_grams": 510, "variant_price": 51.0},
        ],
    }  # fmt: skip
    assert found[3].metadata["published"] is False


@pytest.mark.parametrize("name", ["feed.tsv", "feed.txt.csv", "feed.csv.gz"])
def test_google_as_a_table(tmp_path: Path, name: str) -> None:
    text = GOOGLE.encode("utf-16") if name == "feed.txt.csv" else GOOGLE.encode()
    found = of(tmp_path / name, gzip.compress(text) if name.endswith("gz") else text, prefix="eu")
    assert [(each.id.split("-")[0], each.url[-5:]) for each in found[:3]] == [
        ("eu:A", "1.jpg"),
        ("eu:A", "2.jpg"),
        ("eu:A", "3.jpg"),
    ]
    assert [each.id for each in found[:3]] == ["eu:A-1", "eu:A-1:2", "eu:A-1:3"]
    assert found[1].metadata == {
        "product_id": "A-1", "title": "Shirt", "price": 15.0, "currency": "USD", "availability": "in_stock",
        "gtin": "42", "item_group_id": "G",
    }  # fmt: skip
    assert found[3].id.startswith("eu:B_2_x-")
    assert found[3].metadata["product_id"] == "B 2/x"


def test_google_as_rss_and_atom(tmp_path: Path) -> None:
    found = of(tmp_path / "feed.xml", RSS)
    assert shown(found) == [
        ("A-1", "1.jpg", 1),
        ("A-1:2", "2.jpg", 1),
        ("A-1:3", "3.jpg", 1),
        ("B", "", 2),
        ("C", "", 3),
    ]
    assert found[0].metadata == {
        "product_id": "A-1", "title": "Shirt & tie", "link": "https://shop.example/a", "price": 15.0,
        "currency": "USD", "brand": "Acme",
    }  # fmt: skip
    assert bad(found) == [("B", "missing-image", 2)]
    (one,) = of(tmp_path / "feed.atom", ATOM)
    assert (one.id, one.metadata) == ("A", {"product_id": "A", "title": "T", "link": "https://shop.example/a"})
    assert shown(of(tmp_path / "f.xml.gz", gzip.compress(RSS.encode())))[0] == ("A-1", "1.jpg", 1)


@pytest.mark.parametrize("cut", [520, 600, 650])
def test_what_a_cut_feed_has_goes_in_and_the_cut_is_told(tmp_path: Path, cut: int) -> None:
    found = of(tmp_path / "feed.xml", RSS[:cut])
    assert found[0].id == "A-1"
    assert bad(found)[-1][1] == "cut-off"


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE r [<!ENTITY a "x"><!ENTITY b "&a;&a;">]><rss><item><title>&b;</title></item></rss>',
        '<!DOCTYPE r SYSTEM "file:///etc/passwd"><rss><item/></rss>',
        '<!DOCTYPE r [<!ENTITY x SYSTEM "file:///etc/passwd">]><rss><item><id>&x;</id></item></rss>',
        "<html><body>Not found</body></html>", "", "no xml", "<rss>", "<rss>" + "<a>" * 2_000_000,
    ],
)  # fmt: skip
def test_what_is_no_feed_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SourceError) as error:
        of(tmp_path / "feed.xml", text)
    assert "\n" not in str(error.value)


@settings(max_examples=examples(60), deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {"Handle": st.text(max_size=9), "Image Src": st.sampled_from(["", "https://a.example/x", "x y", "data:,a", "\x00"]),
             "Variant Price": st.text(max_size=5), "Image Position": st.text(max_size=3), "g:Title": st.text(max_size=9)}
        ),
        max_size=9,
    )
)  # fmt: skip
def test_any_feed_is_read_and_every_fault_has_a_reason(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Any]
) -> None:
    import csv

    file = tmp_path_factory.mktemp("feed") / "f.csv"
    with file.open("w", encoding="utf-8", errors="replace", newline="") as text:
        writer = csv.DictWriter(text, ["Handle", "Image Src", "Variant Price", "Image Position", "g:Title"])
        writer.writeheader()
        writer.writerows(rows)
    pictures = open_pictures(file)
    found = list(pictures.sources())
    assert len(found) == pictures.count
    for row in imported(found, Memory()).bad:
        assert row.slug in REASONS
        json.dumps(row.as_json())
