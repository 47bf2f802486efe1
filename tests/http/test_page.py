"""The page in a real browser against a real server: every way to ask, every kind of answer."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageDraw
from playwright.sync_api import Browser, Page, expect

from tests.conftest import StartServer
from tests.harness.pictures import encoded
from tests.harness.proxy import reverse_proxy
from tests.harness.serving import ROOT, Server

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def picture(seed: int) -> bytes:
    """A PNG of coloured shapes, 300 pixels a side; of the seeds used here no two score above 0.91."""
    random = np.random.default_rng(seed)
    image = Image.new("RGB", (300, 300), tuple(random.integers(0, 256, 3).tolist()))
    pen = ImageDraw.Draw(image)
    for _ in range(1 + seed % 5 * 6):
        x, y, radius = random.integers(0, 300, 3).tolist()
        radius = 10 + radius // 4
        colour = tuple(random.integers(0, 256, 3).tolist())
        if seed % 3 == 0:
            pen.line((x, y, 300 - y, x), fill=colour, width=radius // 2)
        else:
            shape = pen.rectangle if seed % 2 else pen.ellipse
            shape((x - radius, y - radius, x + radius, y + radius), fill=colour)
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def shop(module_server: StartServer) -> Server:
    """A server whose collection `shapes` holds eight pictures and takes only close ones for look-alikes."""
    server = module_server()
    assert server.client.put("/v1/collections/shapes").status_code == 201
    assert server.client.patch("/v1/collections/shapes", json={"score_threshold": 0.95}).status_code == 200
    for seed in range(8):
        metadata = json.dumps({"name": f"shape <b>number</b> {seed}"})
        assert server.put("shapes", f"shape-{seed}", picture(seed), metadata).status_code == 201
    return server


@pytest.fixture
def page(browser: Browser, shop: Server) -> Iterator[Page]:
    """The page, opened. At the end nothing may have gone to another host, and the browser complained of nothing."""
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    # The browser itself logs answers that are errors; everything else would be ours.
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource")
            else None
        ),
    )
    page.goto(f"{shop.url}/?collection=shapes")
    expect(page.locator("#count")).to_have_text("8 pictures")
    yield page
    context.close()
    assert asked and all(url.startswith((shop.url, f"blob:{shop.url}")) for url in asked)
    assert complaints == []


def upload(page: Page, content: bytes, name: str = "mine.png") -> None:
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def test_an_uploaded_picture_shows_its_like_with_score_and_name(page: Page) -> None:
    """The nearest comes first, named by its metadata as text, with a thumbnail that loads and a score of one."""
    upload(page, picture(3))
    expect(page.locator("main")).to_have_attribute("data-state", "answered")
    first = page.locator(".card").first
    expect(first.locator(".name")).to_have_text("shape <b>number</b> 3")
    expect(first.locator(".score")).to_have_text("1.00")
    page.wait_for_function("() => document.querySelector('.card img').naturalWidth > 0")
    page.wait_for_function("() => document.querySelector('#preview').naturalWidth === 300")
    expect(page.locator("#live")).to_contain_text("1.00")


def test_a_strange_picture_is_told_to_have_no_like(page: Page) -> None:
    """No match names the best score and the threshold; the nearest can still be seen."""
    upload(page, picture(77))
    expect(page.get_by_role("heading", name="No similar images")).to_be_visible()
    expect(page.locator("#none-text")).to_contain_text("needs 0.95 here (set for this collection)")
    expect(page.locator(".card")).to_have_count(0)
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page.locator(".card:not(.waiting)")).to_have_count(8)
    expect(page.locator("#summary")).to_contain_text("8 nearest pictures")


def test_a_picture_without_content_is_told_why_it_finds_nothing(page: Page) -> None:
    """No score is shown and nothing nearest is offered: the picture itself is the reason."""
    upload(page, encoded(Image.new("RGB", (300, 200), "white"), "PNG"), "white.png")
    expect(page.get_by_role("heading", name="No similar images")).to_be_visible()
    expect(page.locator("#none-text")).to_have_text("The picture shows one colour and almost nothing else.")
    expect(page.get_by_role("button", name="Show the nearest anyway")).to_be_hidden()
    upload(page, picture(77))
    expect(page.locator("#none-text")).to_contain_text("needs")


def test_a_refused_file_is_told_in_the_services_words(page: Page) -> None:
    """The problem's title and detail are shown as an alert, and the next picture works."""
    upload(page, b"not a picture at all", "notes.png")
    alert = page.get_by_role("alert")
    expect(alert).to_be_visible()
    expect(alert.locator("h3")).to_have_text("Not a picture of an accepted kind")
    expect(alert.locator("p")).not_to_be_empty()
    upload(page, picture(1))
    expect(alert).to_be_hidden()
    expect(page.locator(".card:not(.waiting) .name")).to_have_text("shape <b>number</b> 1")


def test_a_bad_file_is_not_offered_to_be_sent_again(page: Page) -> None:
    """The same bytes would be refused again; another picture is what helps."""
    page.locator("#file").set_input_files({"name": "a.gif", "mimeType": "image/gif", "buffer": b"GIF89a" + bytes(40)})
    expect(page.get_by_role("button", name="Choose another picture")).to_be_visible()
    expect(page.get_by_role("button", name="Try again")).to_be_hidden()
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose another picture").click()
    chooser.value.set_files({"name": "mine.png", "mimeType": "image/png", "buffer": picture(3)})
    expect(page.locator(".card:not(.waiting)")).to_have_count(1)


def test_a_file_over_the_limit_is_refused_in_megabytes(page: Page) -> None:
    page.locator("#file").set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": bytes(22_000_000)})
    expect(page.get_by_role("alert")).to_contain_text("20.9 MB")
    expect(page.get_by_role("button", name="Choose another picture")).to_be_visible()


@pytest.mark.parametrize("rest", ["", "&similar=shape-1"])
def test_a_collection_that_is_gone_is_said_to_be(browser: Browser, shop: Server, rest: str) -> None:
    """Another one is shown in its place, and named; picking one ends the notice."""
    page = browser.new_page()
    page.goto(f"{shop.url}/?collection=gone{rest}")
    expect(page.locator("#gone")).to_have_text("There is no collection gone here; this is shapes.")
    expect(page.locator("#main")).to_have_attribute("data-state", "idle")
    page.locator("#collection").select_option("default")
    expect(page.locator("#gone")).to_be_hidden()
    page.close()


def test_the_skip_link_leads_past_the_bar(page: Page) -> None:
    """From the idle page too: the next Tab is at the picture."""
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.locator("#file")).to_be_focused()


@pytest.mark.parametrize("strip", [True, False])
def test_the_page_works_below_a_proxys_path(browser: Browser, server: StartServer, strip: bool) -> None:
    """Its own assets, searches, thumbnails and addresses stay below the path."""
    one = server(env={"LOOKALIKE_ROOT_PATH": "/shop"})
    assert one.put("default", "a", picture(1)).status_code == 201
    with reverse_proxy(one.port, "/shop", strip=strip) as origin:
        page = browser.new_page()
        failed: list[str] = []
        page.on("response", lambda answer: failed.append(answer.url) if answer.status >= 400 else None)
        page.goto(f"{origin}/shop/")
        expect(page.locator("#count")).to_have_text("1 picture")
        upload(page, picture(1))
        expect(page.locator(".card:not(.waiting)")).to_have_count(1)
        assert page.locator(".card img").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.goto(f"{origin}/shop/?collection=default&similar=a")
        expect(page.locator("#caption")).to_have_text("a")
        assert page.locator("#preview").evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
        page.goto(f"{origin}/shop/docs")
        page.wait_for_selector(".opblock")
        page.close()
    assert failed == []


def test_a_service_that_is_away_is_told_and_can_be_asked_again(page: Page) -> None:
    """A lost connection is an error with a way to try again, not an endless wait."""
    page.route("**/search", lambda route: route.abort())
    upload(page, picture(2))
    expect(page.get_by_role("alert")).to_contain_text("The service does not answer")
    page.unroute("**/search")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator(".card .name").first).to_have_text("shape <b>number</b> 2")


def test_find_similar_follows_an_item_and_back_returns(page: Page) -> None:
    """An item's look-alikes leave the item out, are in the address, and the way back leads to the picture again."""
    upload(page, picture(5))
    page.get_by_role("button", name="Find similar to shape <b>number</b> 5").click()
    expect(page.get_by_role("heading", name="No similar images")).to_be_visible()
    assert "similar=shape-5" in page.url
    expect(page.locator("#caption")).to_have_text("shape-5")
    page.reload()
    expect(page.locator("#caption")).to_have_text("shape-5")
    page.go_back()
    upload(page, picture(5))
    page.get_by_role("button", name="Find similar to shape <b>number</b> 5").click()
    expect(page.locator("#caption")).to_have_text("shape-5")
    page.go_back()
    expect(page.locator("#caption")).to_have_text("mine.png")
    expect(page.locator(".card .name").first).to_have_text("shape <b>number</b> 5")


def test_the_keyboard_is_enough(page: Page) -> None:
    """Tab reaches the picture's button, Enter opens it, and from the answer the way goes on with Tab and Enter."""
    page.locator("#collection").focus()
    while not page.evaluate("document.activeElement.id === 'file'"):
        assert not page.evaluate("document.activeElement === document.body"), "the file input is not in the tab order"
        page.keyboard.press("Tab")
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files({"name": "mine.png", "mimeType": "image/png", "buffer": picture(4)})
    expect(page.locator(".card:not(.waiting)")).to_have_count(1)
    page.locator("#file").focus()
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Find similar to shape <b>number</b> 4")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#caption")).to_have_text("shape-4")
    expect(page.locator("#results")).to_be_focused()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_can_be_dropped_or_pasted(page: Page, way: str) -> None:
    """Dropping a file anywhere, or pasting one, asks about it."""
    page.evaluate(
        """([way, bytes]) => {
            const carried = new DataTransfer();
            carried.items.add(new File([new Uint8Array(bytes)], "carried.png", { type: "image/png" }));
            document.body.dispatchEvent(way === "drop"
                ? new DragEvent("drop", { dataTransfer: carried, bubbles: true, cancelable: true })
                : new ClipboardEvent("paste", { clipboardData: carried, bubbles: true }));
        }""",
        [way, list(picture(6))],
    )
    expect(page.locator("#caption")).to_have_text("carried.png")
    expect(page.locator(".card .name").first).to_have_text("shape <b>number</b> 6")


def test_another_collection_answers_the_same_picture(page: Page) -> None:
    """Picking a collection asks it about the picture at hand; an empty one says that it has nothing to compare."""
    upload(page, picture(0))
    expect(page.locator(".card:not(.waiting)")).to_have_count(1)
    page.locator("#collection").select_option("default")
    expect(page.locator("#none-text")).to_have_text("There is nothing in this collection to compare with yet.")
    expect(page.locator("#count")).to_have_text("0 pictures")


def test_the_count_grows_while_pictures_are_imported(browser: Browser, shop: Server) -> None:
    """An open page shows a collection growing without being reloaded."""
    assert shop.client.put("/v1/collections/growing").status_code == 201
    page = browser.new_page()
    page.goto(f"{shop.url}/?collection=growing")
    expect(page.locator("#count")).to_have_text("0 pictures")
    for number in range(3):
        assert shop.put("growing", f"item-{number}", picture(number)).status_code == 201
    expect(page.locator("#count")).to_have_text("3 pictures", timeout=20_000)
    page.close()
    assert shop.client.delete("/v1/collections/growing").status_code == 204


@pytest.mark.parametrize("width", [360, 768, 1440])
def test_no_width_scrolls_sideways(page: Page, width: int) -> None:
    """From a phone to a desktop the answer fits the window."""
    page.set_viewport_size({"width": width, "height": 800})
    upload(page, picture(77))
    page.get_by_role("button", name="Show the nearest anyway").click()
    expect(page.locator(".card:not(.waiting)")).to_have_count(8)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_every_picture_and_control_has_a_name(page: Page) -> None:
    """Nothing visible is nameless to a screen reader."""
    upload(page, picture(2))
    expect(page.locator(".card:not(.waiting)")).to_have_count(1)
    nameless = page.evaluate(
        """() => Array.from(document.querySelectorAll("img:not([hidden]), button, input, select"))
            .filter((each) => !(each.alt || each.getAttribute("aria-label") || each.textContent.trim()
                || Array.from(each.labels ?? []).some((label) => label.textContent.trim())))
            .map((each) => each.outerHTML)"""
    )
    assert nameless == []


def test_the_page_is_whole_without_inline_code() -> None:
    """Nothing inline and nothing from elsewhere, so that the strictest content policy holds."""
    html = (ROOT / "service" / "web" / "index.html").read_text()
    assert "<style" not in html and " style=" not in html and " onclick" not in html and "https://" not in html
    assert html.count("<script") == 1 and 'src="/static/app.js"' in html


def test_a_service_with_keys_asks_for_one_and_keeps_it_for_the_tab(
    browser: Browser, module_server: StartServer
) -> None:
    """Wrong, revoked and right keys; pictures of results load, and a new tab asks again."""
    server = module_server("keyed page")
    server.put("default", "one", picture(0), '{"name": "one"}').raise_for_status()
    made = [json.loads(server.cli("keys", "create", "--scope", "search", "--json").stdout) for _ in range(2)]
    context = browser.new_context(viewport={"width": 1280, "height": 860})
    page = context.new_page()
    page.goto(server.url)
    form = page.get_by_role("form", name="This catalogue needs a key")
    expect(form).to_be_visible()
    form.get_by_label("Key", exact=True).fill("lk_wrong")
    form.get_by_role("button", name="Open").click()
    expect(form).to_contain_text("This key is not known here")
    form.get_by_label("Key", exact=True).fill(made[0]["key"])
    form.get_by_role("button", name="Open").click()
    expect(form).to_be_hidden()
    expect(page.locator("#count")).to_have_text("1 picture")
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": picture(0)})
    shown = page.locator(".card img")
    expect(shown).to_have_count(1)
    page.wait_for_function("document.querySelector('.card img').naturalWidth > 0")
    page.get_by_role("button", name="Find similar to one").click()
    expect(page.locator("#preview")).to_have_attribute("src", re.compile("^blob:"))
    assert server.cli("keys", "revoke", made[0]["id"]).returncode == 0
    page.locator("#file").set_input_files({"name": "a.png", "mimeType": "image/png", "buffer": picture(0)})
    expect(form).to_be_visible()
    expect(form).to_contain_text("This key is not known here")
    form.get_by_label("Key", exact=True).fill(made[1]["key"])
    form.get_by_role("button", name="Open").click()
    expect(page.locator(".card img")).to_have_count(1)  # what was asked is asked again
    other = context.new_page()
    other.goto(server.url)
    expect(other.get_by_role("form", name="This catalogue needs a key")).to_be_visible()
    context.close()
