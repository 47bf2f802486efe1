"""docs/clients.md: each block, as it stands but for the address, does what the text says against a real server."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import StartServer, absent
from tests.harness.commands import run
from tests.harness.pictures import jpeg
from tests.harness.serving import ROOT, Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

TOOLS = ROOT / "build" / "tools"
BLOCKS = dict(
    re.findall(r"^```\w+ (\S+)\n(.*?)^```$", (ROOT / "docs" / "clients.md").read_text(), re.DOTALL | re.MULTILINE)
)
NAMES = ["first", "second", "third"]


class Empty(BaseHTTPRequestHandler):
    """An empty page at every path."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><main></main>")

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    """Of a shop: a web server of its own, since Chromium lets no page from elsewhere call this machine."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()


@pytest.fixture(scope="module")
def filled(module_server: StartServer, origin: str) -> Server:
    """Three pictures; the shop's page may call."""
    running = module_server(env={"LOOKALIKE_CORS_ORIGINS": origin})
    for number, name in enumerate(NAMES, 1):
        running.put("default", name, jpeg(number)).raise_for_status()
    return running


@pytest.fixture
def work(filled: Server, tmp_path: Path) -> Path:
    """A folder with every block as a file, and the picture that they ask for."""
    for name, text in BLOCKS.items():
        (tmp_path / name).write_text(text.replace("http://127.0.0.1:8000", filled.url))
    (tmp_path / "picture.jpg").write_bytes(jpeg(1))
    return tmp_path


@pytest.fixture
def shop(browser: Browser, origin: str) -> Iterator[Page]:
    """An empty page of another origin than the service's."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(origin)
    yield page
    context.close()


def test_every_block_is_run_here() -> None:
    code = Path(__file__).read_text()
    assert len(BLOCKS) == len(re.findall(r"^```\w+", (ROOT / "docs" / "clients.md").read_text(), re.MULTILINE))
    assert [name for name in BLOCKS if f'"{name}"' not in code] == []


def test_curl(work: Path) -> None:
    if shutil.which("curl") is None:
        absent("no curl here: run scripts/system-packages")
    assert json.loads(run("bash", "search.sh", cwd=work))["results"][0]["id"] == "first"


def test_java(work: Path) -> None:
    if shutil.which("javac") is None:
        absent("no JDK here: run scripts/system-packages")
    assert json.loads(run("java", "Search.java", "picture.jpg", cwd=work))["results"][0]["id"] == "first"


@pytest.mark.parametrize("script", ["search_requests.py", "search_typed.py"])
def test_python(script: str, work: Path, clients: Path) -> None:
    path = {"MYPYPATH": str(clients / "python"), "PYTHONPATH": str(clients / "python")}
    python = TOOLS / "python" / "bin" / "python"
    run(python, "-m", "mypy", "--strict", script, cwd=work, env=path)
    id, score = run(python, script, cwd=work, env=path).splitlines()[0].split()
    assert id == "first" and float(score) > 0.99


def test_openais_client(work: Path, clients: Path) -> None:
    assert run(TOOLS / "python" / "bin" / "python", "embed.py", cwd=work).split() == ["2048", "2048", "True"]


@pytest.mark.browser
def test_a_page_of_another_origin_searches_and_reads_errors(work: Path, shop: Page) -> None:
    shop.add_script_tag(type="module", content=(work / "search.js").read_text() + "\nwindow.search = search;")
    shop.wait_for_function("() => window.search")
    ask = """async ([bytes, fields]) => {
        try { return await search(new Blob([new Uint8Array(bytes)]), fields); }
        catch (error) { return error.problem ?? String(error); }
    }"""
    picture = list(jpeg(2))
    assert shop.evaluate(ask, [picture, {"limit": 1}])["results"][0]["id"] == "second"
    assert shop.evaluate(ask, [picture, {"limit": 0}])["status"] == 422
    assert shop.evaluate(ask, [list(b"text"), {}])["type"] == "/problems/unsupported-image"
    assert (
        shop.evaluate("() => search(new Blob([new Uint8Array(30_000_000)])).catch(error => error.problem.status)")
        == 413
    )


@pytest.mark.browser
def test_a_page_of_an_origin_that_is_not_named_is_refused(work: Path, browser: Browser, filled: Server) -> None:
    """Another port is another origin: the page cannot read even the error."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Empty) as served:
        Thread(target=served.serve_forever, daemon=True).start()
        page = browser.new_page()
        page.goto(f"http://127.0.0.1:{served.server_port}")
        page.add_script_tag(type="module", content=(work / "search.js").read_text() + "\nwindow.search = search;")
        page.wait_for_function("() => window.search")
        said = page.evaluate("() => search(new Blob(['text'])).then(() => 'answered', error => error.name)")
        page.close()
        served.shutdown()
    assert said == "TypeError"


@pytest.mark.browser
def test_the_react_component(work: Path, clients: Path, shop: Page) -> None:
    """Compiled strictly against the packed client, bundled, and used by a person on a page of another origin."""
    modules = work / "node_modules"
    modules.mkdir()
    for name in ("react", "react-dom", "@types", "typescript", ".bin", "scheduler", "csstype"):
        (modules / name).symlink_to(TOOLS / "npm" / "node_modules" / name)
    (modules / "lookalike-sdk").mkdir()
    (packed,) = (clients / "dist").glob("lookalike-sdk-*.tgz")
    run("tar", "xzf", packed, "--strip-components", "1", "-C", modules / "lookalike-sdk", cwd=work)
    (work / "main.tsx").write_text(
        'import { createRoot } from "react-dom/client";\nimport { LookAlikes } from "./LookAlikes";\n'
        'createRoot(document.querySelector("main")!).render(<LookAlikes />);\n'
    )
    strict = ("--strict", "--noEmit", "--jsx", "react-jsx", "--module", "esnext", "--moduleResolution", "bundler")
    run(
        modules / ".bin" / "tsc",
        *strict,
        "--target",
        "es2022",
        "--types",
        "react",
        "LookAlikes.tsx",
        "main.tsx",
        cwd=work,
    )
    run(
        TOOLS / "npm/node_modules/.bin/esbuild",
        "main.tsx",
        "--bundle",
        "--jsx=automatic",
        "--outfile=page.js",
        cwd=work,
    )
    shop.add_script_tag(path=work / "page.js")
    chooser = shop.get_by_label("Picture")
    chooser.set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": jpeg(3)})
    expect(shop.get_by_role("listitem").first).to_contain_text("third (1.00)")
    shown = "image => image.decode().then(() => image.naturalWidth)"
    assert shop.locator("img").first.evaluate(shown) > 0
    chooser.set_input_files({"name": "a.jpg", "mimeType": "image/jpeg", "buffer": b"text"})
    expect(shop.get_by_role("alert")).to_be_visible()
    expect(shop.get_by_role("listitem")).to_have_count(0)
