"""Soak: the same tests with many more made-up cases, for `make soak`."""

from __future__ import annotations

import os

SOAK = os.environ.get("SOAK") == "1"
TIMES = 30


def examples(usual: int) -> int:
    """How many cases to make up where `usual` are enough for every day."""
    return usual * TIMES if SOAK else usual
