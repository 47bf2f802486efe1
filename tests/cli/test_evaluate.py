"""`lookalike evaluate`: real pictures in a real catalogue, judged; what cannot be used is named."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.cli.test_cli import Lookalike, lookalike, one_line
from tests.conftest import Photos, StartServer
from tests.harness.pictures import encoded, jpeg, pixels

__all__ = ["lookalike"]

LABELS = ("even", "odd <b>")
COUNT = 12


def label(number: int) -> str:
    return LABELS[number % 2]


def again(number: int) -> bytes:
    """The picture of an item saved once more, as a customer sends it."""
    return encoded(pixels(number), quality=60)


def queries(folder: Path, **more: str) -> Path:
    """A table with a query for every item, a stranger, and whatever people get wrong."""
    (folder / "q").mkdir()
    rows = [["image", "label", "colour"]]
    for number in range(COUNT):
        (folder / "q" / f"{number}.jpg").write_bytes(again(number))
        rows.append([f"q/{number}.jpg", label(number), "red"])
    for name, data in (("alien", jpeg(900)), ("broken", b"\xff\xd8\xff\xe0 nothing"), ("itself", jpeg(3))):
        (folder / "q" / f"{name}.jpg").write_bytes(data)
    (folder / "q" / "white.png").write_bytes(encoded(Image.new("RGB", (64, 64), "white"), "PNG"))
    rows += [["q/alien.jpg", "", ""], ["q/broken.jpg", "even", ""], ["q/gone.jpg", "even", ""]]
    rows += [["q/white.png", "even", ""], ["q/0.jpg", "nobody's", ""], ["", "even", ""], ["q/itself.jpg", label(3), ""]]
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    (folder / "queries.csv").write_text(text.getvalue())
    return folder / "queries.csv"


def checked(found: dict[str, Any]) -> None:
    """What an evaluation of `queries` has to say."""
    assert (found["items"], found["queries"], found["strangers"]) == (COUNT, COUNT + 1, 1)
    assert found["recall_at_1"]["count"] == COUNT + 1 and found["recall_at_1"]["hits"] >= COUNT
    assert found["no_match"]["recall"]["count"] == 1 and found["relevant"] == "label"
    assert {each["label"]: each["queries"] for each in found["labels"]} in (
        {LABELS[0]: COUNT // 2, LABELS[1]: COUNT // 2 + 1},
    )
    told = {each["what"]: each["reason"] for each in found["left_out"]}
    assert set(told) == {
        "column colour",
        "queries.csv line 19",
        "q/broken.jpg",
        "q/gone.jpg",
        "q/white.png",
        "label nobody's",
        "1 query",
    }
    assert "byte for byte" in told["1 query"] and "one colour" in told["q/white.png"]
    answered = found["answered"]
    assert set(answered["latency_ms"]) == {"decode", "embed", "search", "total"}
    assert answered["index_recall_at_10"] == 1 and answered["queries"] == COUNT + 2
    for k in (1, 5, 10):
        assert answered[f"recall_at_{k}"] == found[f"recall_at_{k}"], "an exact index answers exactly"
    assert answered["precision_at_10"] == pytest.approx(found["precision_at_10"]["value"])


class Sources(HTMLParser):
    """Everything that a page would load, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action")]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_what_can_be_used_is_judged_and_drawn(lookalike: Lookalike) -> None:
    folder = lookalike.folder
    (folder / "shop").mkdir()
    rows = [["id", "image", "label"]]
    for number in range(COUNT):
        (folder / "shop" / f"{number}.jpg").write_bytes(jpeg(number))
        rows.append([f"i{number}", f"{number}.jpg", label(number)])
    with (folder / "shop" / "catalogue.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert lookalike("import", "shop/catalogue.csv").returncode == 0
    table = queries(folder)
    found = lookalike.json(
        "evaluate", table, "--report", "report.html", "--sheet", "worst.png", "--worst", "3",
        "--compare", "side=96+threshold=0.1,0.9", "--compare", "threshold=1",
    )  # fmt: skip
    checked(found)
    assert [each["name"] for each in found["comparison"]] == [
        "as it is", "side 96 + threshold 0.1", "side 96 + threshold 0.9", "threshold 1.0",
    ]  # fmt: skip
    usual, low, high, none = found["comparison"]
    assert usual["mean_average_precision"] == found["mean_average_precision"] == none["mean_average_precision"]
    assert low["mean_average_precision"] == high["mean_average_precision"] != usual["mean_average_precision"]
    assert low["no_match"]["kept"]["value"] == 1 and none["no_match"]["kept"]["value"] < 0.5
    page = Sources()
    page.feed((folder / "report.html").read_text())
    assert page.loads and all(each.startswith("data:image/") for each in page.loads), "it needs no other file"
    assert "script" not in page.tags and "b" not in re.findall(r"<b>", page.text)
    assert LABELS[1] in page.text and "side 96 + threshold 0.1" in page.text and "q/gone.jpg" in page.text
    with Image.open(folder / "worst.png") as sheet:
        assert sheet.height > 200
    for options, words in (
        (("nothing.csv",), "nothing.csv cannot be read: No such file"),
        ((table, "--compare", "size=3"), "say model"),
        ((table, "--report", "report.txt"), "must end in .html"),
        ((table, "--open"), "name it with"),
        ((table, "--label", "brand"), "no column label (or brand) or id"),
    ):
        if options[-1] == "brand":
            table.write_text("image,price\nq/0.jpg,3\n")
        assert words in one_line(lookalike("evaluate", *options)), options


@pytest.mark.slow
def test_beside_a_server_it_is_the_same(lookalike: Lookalike, server: StartServer) -> None:
    running = server()
    for number in range(COUNT):
        running.put("default", f"i{number}", jpeg(number), json.dumps({"label": label(number)})).raise_for_status()
    running.client.patch("/v1/collections/default", json={"score_threshold": 0.7}).raise_for_status()
    lookalike.env["LOOKALIKE_DATA_DIR"] = str(running.data_dir)
    before = running.client.get("/v1/collections/default").json()
    found = lookalike.json("evaluate", queries(lookalike.folder), "--compare", "crop=squash")
    checked(found)
    assert (found["threshold"], found["threshold_source"]) == (0.7, "collection")
    squashed = found["comparison"][1]
    assert squashed["items"] == COUNT and squashed["recall_at_1"]["hits"] >= COUNT
    assert running.client.get("/v1/collections/default").json() == before, "nothing is changed"
    (lookalike.folder / "one.csv").write_text("image,id\nq/1.jpg,i1\n")
    one = lookalike.json("evaluate", "one.csv", "--worst", "1")
    assert (one["queries"], one["recall_at_1"]["value"], one["relevant"]) == (1, 1, "id")
    (lookalike.folder / "aliens.csv").write_text("image,label\nq/alien.jpg,\n")
    aliens = lookalike.json("evaluate", "aliens.csv")
    assert aliens["recall_at_1"] is None and aliens["no_match"]["recall"]["count"] == 1
    running.client.put("/v1/collections/bare").raise_for_status()
    assert "is empty" in one_line(lookalike("evaluate", "one.csv", "--collection", "bare"))
    (lookalike.folder / "one.csv").write_text("image,id\nq/gone.jpg,i1\n")
    assert "no query can be used; q/gone.jpg" in one_line(lookalike("evaluate", "one.csv"))


@pytest.mark.slow
def test_real_photographs_find_their_kind(lookalike: Lookalike, photos: Photos) -> None:
    wanted = sorted({each.label for each in photos("groceries", "queries")})[:8]

    def listing(name: str, split: str, most: int) -> Path:
        rows = [["id", "image", "label"]]
        for kind in wanted:
            own = [each for each in photos("groceries", split) if each.label == kind][:most]
            rows += [[each.id, str(each.path.resolve()), each.label] for each in own]
        with (lookalike.folder / name).open("w", newline="") as file:
            csv.writer(file).writerows(rows)
        return lookalike.folder / name

    assert lookalike("import", listing("catalogue.csv", "catalogue", 6)).returncode == 0
    strangers = lookalike.folder / "strangers.csv"
    foreign = [each.path.resolve() for each in photos("clothing", "queries", 12)]
    strangers.write_text("id,image\n" + "".join(f"s{n},{path}\n" for n, path in enumerate(foreign)))
    found = lookalike.json("evaluate", listing("queries.csv", "queries", 3), "--strangers", strangers)
    assert found["queries"] == found["recall_at_1"]["count"] and found["strangers"] == 12
    assert found["recall_at_1"]["value"] > 0.5 < found["mean_average_precision"]["value"]
    assert found["no_match"]["parted"] > 0.95, "clothes are no groceries"
    assert [each["what"] for each in found["left_out"]] == ["column id"]
