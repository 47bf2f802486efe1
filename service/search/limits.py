"""What one search may ask for: each limit in one place, for HTTP and the command line alike."""

from __future__ import annotations

DEFAULT_RESULTS = 10
MAX_RESULTS = 100
MAX_OFFSET = 10_000
# Ids of liked items in one query, and likewise of disliked ones.
MAX_EXAMPLES = 100
MIN_WEIGHT, MAX_WEIGHT = 0.001, 1_000.0  # of one example
# Pictures among the examples of one query: each is decoded and embedded.
MAX_PICTURES = 8
# Queries, or pictures to embed, in one request.
MAX_BATCH = 32
# Items whose similar ones are asked for in one request: nothing is decoded or embedded for them.
MAX_SIMILAR = 100
