"""What an item id, a collection's name and metadata may be: each limit once, for every engine and for the service."""

from __future__ import annotations

import re

MAX_ID, MAX_NAME = 128, 63  # characters
# "." and ".." would be eaten by whatever resolves paths, so they are no ids.
_FIRST, _LATER = "[A-Za-z0-9_:@-]", "[A-Za-z0-9._:@-]"
ID_PATTERN = (
    rf"^(?:{_FIRST}{_LATER}{{0,{MAX_ID - 1}}}|\.{_FIRST}{_LATER}{{0,{MAX_ID - 2}}}|\.\.{_LATER}{{1,{MAX_ID - 2}}})$"
)
NAME_PATTERN = rf"^[a-z0-9][a-z0-9_-]{{0,{MAX_NAME - 1}}}$"
ID = re.compile(ID_PATTERN.removeprefix("^").removesuffix("$"))
NAME = re.compile(NAME_PATTERN.removeprefix("^").removesuffix("$"))
ID_RULE = f"1 to {MAX_ID} characters of A-Z a-z 0-9 . _ : @ -, and not '.' or '..'"
NAME_RULE = f"1 to {MAX_NAME} characters of a-z 0-9 _ -, and starts with a letter or digit"

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1  # in metadata and filters
MAX_KEY = 2**32 - 1  # number of an item inside its collection, never used again
MAX_METADATA = 65_536  # bytes of JSON
MAX_RECORD = 2**20  # bytes of JSON

# Share of the true nearest that searches are to find; below the least, what is found would be no answer any more.
MIN_RECALL, RECALL = 0.5, 0.995
RECALL_RULE = f"from {MIN_RECALL} to 1, where 1 compares every vector"
