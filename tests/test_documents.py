"""What the documents name exists, and what exists is named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.settings import PREFIX, Settings
from tests.harness.serving import ROOT

README = (ROOT / "README.md").read_text()


def test_the_readme_lists_every_setting_and_no_other() -> None:
    """The table of settings is the settings."""
    named = set(re.findall(rf"`{PREFIX}([A-Z_]+)`", README))
    assert named == {name.upper() for name in Settings.model_fields}


def test_links_between_documents_lead_somewhere() -> None:
    """Every relative link of a tracked document points at a file."""
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", document.read_text()):
            if "://" not in target:
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_every_promise_names_tests_that_exist() -> None:
    """Each row of docs/reliability.md has one at least, and each is there."""
    rows = [line for line in (ROOT / "docs" / "reliability.md").read_text().splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.startswith("| promise")]
    assert len(promises) > 20
    for row in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row)
        assert named, row
        for file, name in named:
            code = (ROOT / file).read_text()
            assert re.search(rf"^(?:async )?def {name}\b|^(?:class )?{name}\b", code, re.MULTILINE), f"{file}::{name}"


def test_make_lists_its_targets() -> None:
    """`make` alone explains itself and builds nothing; every target that the README names is there."""
    listed = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True).stdout
    targets = set(re.findall(r"^  make ([a-z-]+) ", listed, re.MULTILINE))
    assert {"setup", "run", "test", "check", "bench", "image", "help"} <= targets
    assert set(re.findall(r"(?:`| {4})make ([a-z-]+)", README)) <= targets


@pytest.mark.parametrize("missing", ["Python 3.11", "npm"])
def test_setup_says_in_one_line_what_is_missing(missing: str, tmp_path: Path) -> None:
    """Without a fitting Python or npm: one line on stderr beside make's own, and no half-made environment."""
    project, tools = tmp_path / "project", tmp_path / "bin"
    for part in ("scripts", "requirements"):
        shutil.copytree(ROOT / part, project / part)
    for part in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / part, project)
    tools.mkdir()
    for tool in ("make", "bash", "env", *([] if missing.startswith("Python") else ["python3"])):
        (tools / tool).symlink_to(sys.executable if tool == "python3" else str(shutil.which(tool)))
    done = subprocess.run(
        ["make", "setup"],
        cwd=project,
        env={"PATH": str(tools)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    told = [line for line in done.stderr.splitlines() if not line.startswith("make") or "needs" in line]
    assert done.returncode != 0
    assert len(told) == 1 and missing in told[0]
    assert not (project / ".venv").exists()
