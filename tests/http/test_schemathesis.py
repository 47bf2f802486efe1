"""Thousands of requests made from the document: answered as it says, bad ones refused, never a bug of ours."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartServer, absent
from tests.harness.pictures import jpeg
from tests.harness.serving import ROOT
from tests.harness.soak import examples

# Its 5,000 requests take a minute on two idle cores.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(examples(900))]

HERE = Path(__file__).parent
LEAST = 3000


def test_no_request_that_the_document_gives_rise_to_is_answered_otherwise(server: StartServer) -> None:
    """Examples, edges, random ones and walks along the links, the same in each run."""
    command = Path(sys.executable).with_name("schemathesis")
    if not command.exists():
        absent("no schemathesis here: make setup, or pip install -r requirements/dev.lock")
    one = server()
    one.put("default", "shirt-1", jpeg(1), '{"brand": "acme", "price": 12.5}')
    done = subprocess.run(
        [
            *(str(command), "--config-file", str(HERE / "schemathesis.toml"), "run", f"{one.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing,stateful", "--max-examples", str(examples(15)), "--seed", "1"),
            *("--continue-on-failure", "--no-color", "--suppress-health-check", "all"),
        ],
        cwd=one.data_dir.parent,
        env={**os.environ, "SCHEMATHESIS_HOOKS": "tests.http.schemathesis_hooks", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=examples(840),
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    found = re.search(r"^\s*(\d+) generated", done.stdout, re.MULTILINE)
    assert found and int(found[1]) >= LEAST, done.stdout[-2000:]
    assert one.client.get("/readyz").status_code == 200
