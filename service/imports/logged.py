"""An import without a person who watches: how it goes is in the log, in a few lines."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Sequence

from service.imports.engine import run
from service.imports.sources.source import Bad, Source
from service.imports.tally import Tally
from service.imports.targets.target import Target
from service.text import one_line

log = logging.getLogger("lookalike.import")

LOG_EVERY_S = 10.0
BAD_LOGGED = 20


async def run_logged(
    sources: Iterable[Source], target: Target, *, total: int, what: str, bad: Sequence[Bad] = ()
) -> Tally:
    """`run`, logged. what: the sources' name in the log."""
    logged = time.monotonic()

    def progress(tally: Tally) -> None:
        nonlocal logged
        if time.monotonic() - logged >= LOG_EVERY_S:
            logged = time.monotonic()
            log.info("importing %s: %d of %d", what, tally.handled, tally.total)

    log.info("importing %s: %d pictures", what, total)
    tally = await run(sources, target, total=total, bad=bad, on_progress=progress)
    for row in tally.bad[:BAD_LOGGED]:
        log.warning("not imported: %s: %s", one_line(row.path), row.reason)
    if len(tally.bad) > BAD_LOGGED:
        log.warning("not imported: %d more; `lookalike import` lists them all", len(tally.bad) - BAD_LOGGED)
    log.info(
        "imported %s: %d new, %d changed, %d unchanged, %d bad in %.1f s",
        what, tally.created, tally.replaced, tally.unchanged, len(tally.bad), tally.seconds,
    )  # fmt: skip
    return tally
