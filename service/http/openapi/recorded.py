"""Recorded: what a real service answered, which the document shows as examples. `python -m tests.answers` writes it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

RECORDED = Path(__file__).with_name("recorded.json")
Examples = dict[str, dict[str, Any]]  # by name, as OpenAPI has them


@dataclass(frozen=True, slots=True)
class Recorded:
    """answers: examples by operation, status and media type; requests: of bodies that are no JSON, by operation and
    media type; problems: by slug, those that could be provoked."""

    answers: dict[str, dict[str, dict[str, Examples]]]
    requests: dict[str, dict[str, Examples]]
    problems: dict[str, dict[str, Any]]


def read() -> Recorded:
    return Recorded(**orjson.loads(RECORDED.read_bytes()))
