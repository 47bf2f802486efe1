"""A real Chromium: what it shows is what a picture looks like."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image
from playwright.sync_api import Browser, Page, Route, sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
]
# Draws a picture as an <img> shows it, on white. A picture that breaks off half way is shown as far as it goes.
_SHOW = """
async ([text, type]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const url = URL.createObjectURL(new Blob([bytes], { type }));
    const image = new Image();
    const shown = await new Promise((resolve) => {
        image.onload = () => resolve(true);
        image.onerror = () => resolve(false);
        image.src = url;
    });
    if (!shown) return null;
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth;
    canvas.height = image.naturalHeight;
    const pen = canvas.getContext("2d");
    pen.fillStyle = "white";
    pen.fillRect(0, 0, canvas.width, canvas.height);
    pen.drawImage(image, 0, 0);
    URL.revokeObjectURL(url);
    return canvas.toDataURL("image/png").split(",")[1];
}
"""


def installed() -> str | None:
    """Where Chromium is; None where there is none."""
    return next(filter(None, map(shutil.which, BROWSERS)), None)


@contextmanager
def launched(executable: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@contextmanager
def viewer(browser: Browser) -> Iterator[Page]:
    """An empty page that `show` draws pictures in."""

    def answer(route: Route) -> None:
        route.fulfill(body="<!doctype html><title>viewer</title>", content_type="text/html")

    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", answer)
    page.goto("http://localhost/")
    yield page
    context.close()


def show(page: Page, data: bytes, kind: str) -> Image.Image | None:
    """What an <img> shows of a picture ("jpeg", "png", "webp"), upright, on white, RGB; None where it shows nothing."""
    text = page.evaluate(_SHOW, [base64.b64encode(data).decode(), f"image/{kind}"])
    return None if text is None else Image.open(io.BytesIO(base64.b64decode(text))).convert("RGB")
