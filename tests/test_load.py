"""The load test's shape, exit codes and one-line errors; never its times."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import httpx
import pytest

from benchmarks.load import figures
from benchmarks.load.arrivals import Seen, due_times, stages_of
from benchmarks.load.target import Unfit, target_of
from tests.harness.pictures import jpeg
from tests.harness.process import ROOT, ServerProcess, free_port

ALWAYS_MET = "[scenario.upload]\nerror_share = 1.0\n"
NEVER_MET = "[scenario.upload]\np99_ms = 0.0\n"


def load(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *arguments],
        cwd=ROOT,
        env=os.environ | env,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def histogram(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A service without a network and without a model on disk."""
    folder = tmp_path_factory.mktemp("load")
    server = ServerProcess(folder / "data", folder / "none", {"LOOKALIKE_MODEL": "histogram"})
    with server.start():
        for number in range(4):
            path = f"{server.url}/v1/collections/default/items/{number}"
            httpx.put(path, files={"image": ("a.jpg", jpeg(number))}, timeout=60).raise_for_status()
        yield server


@pytest.mark.parametrize(("objectives", "code"), [(ALWAYS_MET, 0), (NEVER_MET, 1)])
def test_a_run_reports_and_judges(histogram: ServerProcess, tmp_path: Path, objectives: str, code: int) -> None:
    """JSON and HTML say the same of every scenario, that no network was there, and leave nothing behind."""
    (tmp_path / "objectives.toml").write_text(objectives)
    places = ("--out", str(tmp_path / "out"), "--objectives", str(tmp_path / "objectives.toml"))
    done = load("--host", histogram.url, "--seconds", "0.6", "--made", *places)
    assert done.returncode == code, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    page = (tmp_path / "out" / "report.html").read_text()
    assert set(report["scenarios"]) == {"upload", "similar", "mix", "import"}
    for name, found in report["scenarios"].items():
        assert name in page and set(found["ms"]) == {"p50", "p95", "p99", "p99.9"}
        assert found["count"] == sum(each["count"] for each in found["routes"])
    assert {"decode", "embed"} <= set(report["scenarios"]["upload"]["stages_ms"])
    assert bool(report["missed"]) == bool(code)
    assert report["service"]["model"]["name"] == "histogram"
    assert "no network" in page and "no network" in done.stdout
    assert "no network" in histogram.log()


def test_a_closed_port_is_one_line(tmp_path: Path) -> None:
    refused(load("--host", f"http://127.0.0.1:{free_port()}", "--out", str(tmp_path)), "does not answer")


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<html>", "no Lookalike"),
        (200, b"[]", "no Lookalike"),
        (200, b'{"name": "other"}', "no Lookalike"),
        (404, b"", "no Lookalike"),
        (401, b"{}", "LOOKALIKE_LOAD_KEY"),
        (503, b"{}", "overloaded"),
        (429, b"{}", "overloaded"),
    ],
)
def test_an_unfit_host_is_one_line(tmp_path: Path, status: int, body: bytes, says: str) -> None:
    """Whatever else listens there."""

    class Answer(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as other:
        Thread(target=other.serve_forever, daemon=True).start()
        done = load("--host", f"http://127.0.0.1:{other.server_port}", "--out", str(tmp_path))
        other.shutdown()
    refused(done, says)


def refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2
    assert says in done.stderr and done.stderr.count("\n") == 1 and not done.stdout


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "https://a", "http://", "http://a:x", "http://a b", "http://a?b=c"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(Unfit):
        target_of(url)


def test_percentiles_by_hand() -> None:
    """Nearest rank; nothing of nothing."""
    assert figures.percentiles([float(n) for n in range(1, 1001)]) == {
        "p50": 500.0,
        "p95": 950.0,
        "p99": 990.0,
        "p99.9": 999.0,
    }
    assert figures.percentiles([])["p50"] is None


def test_broken_and_refused_requests_count_as_errors() -> None:
    seen = [Seen("search", "", status, 0.1, {}) for status in (200, 201, 0, 503, 503)]
    assert figures.row(seen)["errors"] == {"connection broken": 1, "503 overloaded": 2}


def test_arrivals_are_fixed_beforehand() -> None:
    times = due_times(100, 10, random.Random(1))
    assert times == sorted(times) and 800 < len(times) < 1200 and times[-1] < 10


def test_stages_are_read_from_an_answer() -> None:
    assert stages_of(b'{"took_ms":{"decode":1.5,"embed":2},"x":1}') == {"decode": 1.5, "embed": 2.0}
    assert stages_of(b"nothing") == {}
