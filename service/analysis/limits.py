"""How long lists of neighbours are: each limit once, for HTTP and the command line alike."""

from __future__ import annotations

DEFAULT_NEIGHBORS, MAX_NEIGHBORS = 10, 100
