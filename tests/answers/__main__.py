"""Records what a real service answers: python -m tests.answers [OPERATION …] [--all]

Starts services of their own with the sample catalogue and writes service/http/openapi/recorded.json, which takes some
minutes. Without names only what has no example yet is written, so that the rest stays as it is; then openapi.json is to
be written anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.http.openapi import recorded
from service.http.openapi.committed import document
from service.http.openapi.recorded import RECORDED, Recorded
from tests.answers.recorder import write
from tests.answers.services import record

COMMIT = "python -m service.http.openapi.committed > openapi.json"


def merged(old: Recorded, new: Recorded, names: set[str]) -> Recorded:
    """old, filled with what it lacks of new; of the operations and slugs that are named what is new."""

    def of(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
        return filled({name: each for name, each in before.items() if name not in names}, after)

    return Recorded(
        of(old.answers, new.answers),
        of(old.requests, new.requests),
        {**new.problems, **{slug: each for slug, each in old.problems.items() if slug not in names}},
    )


def filled(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Everything of both, down to whole examples, which are never mixed."""
    if "value" in old:
        return dict(old)
    return {
        name: filled(old[name], new[name]) if name in old and name in new else old.get(name, new.get(name))
        for name in {**old, **new}
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="OPERATION", help="to record anew; a problem's slug too")
    parser.add_argument("--all", action="store_true", help="record everything anew")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lookalike-answers-") as folder:
        data = str(Path(folder) / "data")
        new = record(Path(folder), Path("data/models"))
    if unknown := set(asked.names) - {*new.answers, *new.problems}:
        seen = ", ".join(sorted(unknown))
        sys.stderr.write(f"no answer of {seen} was seen: add a request to tests/answers/walk.py\n")
        return 1
    operations = {each["operationId"] for methods in document()["paths"].values() for each in methods.values()}
    kept = new if asked.all else merged(recorded.read(), new, set(asked.names))
    for each in (kept.answers, kept.requests):
        for gone in each.keys() - operations:
            del each[gone]
    write(kept, RECORDED, data=data)
    sys.stdout.write(f"written: {RECORDED.name}, {len(kept.answers)} operations; now: {COMMIT}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
