"""What an item id, a collection's name and metadata may be: each limit once, for every engine and for the service."""

from __future__ import annotations

import re

# "." and ".." would be eaten by whatever resolves paths, so they are no ids.
ID_PATTERN = (
    r"^(?:[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,127}|\.[A-Za-z0-9_:@-][A-Za-z0-9._:@-]{0,126}|\.\.[A-Za-z0-9._:@-]{1,126})$"
)
NAME_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,62}$"
ID = re.compile(ID_PATTERN.removeprefix("^").removesuffix("$"))
NAME = re.compile(NAME_PATTERN.removeprefix("^").removesuffix("$"))
ID_RULE = "1 to 128 characters of A-Z a-z 0-9 . _ : @ -, and not '.' or '..'"
NAME_RULE = "1 to 63 characters of a-z 0-9 _ -, and starts with a letter or digit"

MIN_INTEGER, MAX_INTEGER = -(2**63), 2**63 - 1  # in metadata and filters
MAX_METADATA = 65_536  # bytes of JSON
MAX_RECORD = 2**20  # bytes of JSON
