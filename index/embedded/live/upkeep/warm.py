"""After a start the vectors are read once, in order, so that searches find them in the page cache."""

from __future__ import annotations

import logging
import re
import threading
import time
from pathlib import Path

from index.embedded.live.generation import Generation

_AFTER = 5.0  # seconds that a starting service has the disk for itself
_log = logging.getLogger("lookalike.index")


def begin(big: Generation, name: str, stop: threading.Event) -> None:
    """Does so in the background, where half of the spare memory holds them, until `stop` is set. name: for the log."""
    threading.Thread(target=_read, args=(big, name, stop), name="index-warm", daemon=True).start()


def _read(big: Generation, name: str, stop: threading.Event) -> None:
    if stop.wait(_AFTER):
        return
    began = time.monotonic()
    done = big.warm(room=spare_memory() // 2, stopped=stop.is_set)
    _log.debug("collection %s: %d MB read ahead in %.2f s", name, done // 10**6, time.monotonic() - began)


def spare_memory() -> int:
    """Bytes that can be used without pushing out what is in use, by the system's own reckoning; 0 where it has none."""
    try:
        text = Path("/proc/meminfo").read_text()
    except OSError:
        return 0
    found = re.search(r"^MemAvailable:\s*(\d+) kB$", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
