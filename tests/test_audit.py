"""What the service is made of is listed, whole, for whoever has to answer for it."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.harness.process import ROOT


@pytest.mark.slow
def test_the_list_of_packages_is_the_lock() -> None:
    done = subprocess.run([ROOT / "scripts" / "audit", "--list-only"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listed = json.loads((ROOT / "build" / "sbom.cdx.json").read_text())
    assert listed["bomFormat"] == "CycloneDX" and listed["metadata"]["component"]["name"] == "lookalike"
    pinned = re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / "requirements" / "cpu.lock").read_text(), re.M)
    assert pinned
    assert {(each["name"].lower(), each["version"]) for each in listed["components"]} == {
        (name.lower(), version) for name, version in pinned
    }
    assert all(each["purl"].startswith("pkg:pypi/") for each in listed["components"])
