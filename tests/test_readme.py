"""The README's commands run from top to bottom on a fresh machine."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from tests.conftest import StartServer, absent
from tests.harness.pictures import encoded, pixels
from tests.harness.process import command
from tests.harness.serving import ROOT

SECTIONS = ("Two minutes", "Your own catalogue", "What a shop asks for", "The command line")
# As typed, but an answer that is an error ends the script.
PRELUDE = 'set -eu\ncurl() { command curl --silent --show-error --fail-with-body "$@"; echo; }\n'


def commands() -> str:
    """The shell blocks of the sections that a newcomer follows."""
    readme = (ROOT / "README.md").read_text()
    sections = {text.partition("\n")[0]: text for text in readme.split("\n## ")}
    blocks = [re.findall(r"```sh\n(.*?)```", sections[title], re.DOTALL) for title in SECTIONS]
    assert all(blocks)
    return "\n".join(block for found in blocks for block in found)


def test_the_readmes_commands_run_from_top_to_bottom(server: StartServer, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        absent("curl is not installed")
    running = server()
    running.put("default", "drinks:teapot", encoded(pixels(1), "PNG")).raise_for_status()  # as the sample brings it
    here = tmp_path / "checkout"
    (here / ".venv/bin").mkdir(parents=True)
    (here / ".venv/bin/lookalike").write_text(f'#!/bin/sh\nexec {" ".join(command())} "$@"\n')
    (here / ".venv/bin/lookalike").chmod(0o755)
    script = PRELUDE + commands().replace("http://127.0.0.1:8000", running.url)
    assert script.count(running.url) >= 6
    done = subprocess.run(
        ["bash", "-c", script], cwd=here, env=running.env, capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert answers[0]["results"][0]["id"] == "drinks:teapot"
    assert answers[3]["results"][0]["id"] == "teapot-1"
    assert answers[4]["score_threshold"] == 0.7
    assert answers[5]["facets"]["brand"] == [{"value": "acme", "count": 1, "searched": 1}]
    assert answers[6]["results"][0]["why"] == ["boost × 1.2"]
    assert answers[7]["best_score"] is None  # the only item there is
    assert "1 new" in done.stdout
    assert (here / "backup.tar").is_file()
