"""One stream of log lines on stderr: for people (console) or for machines (json), with exceptions in full."""

from __future__ import annotations

import logging
import re
import sys

import structlog

from service.settings import Settings

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def one_line(logger: object, name: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """Escapes control characters in what is logged: a client's text neither moves the cursor nor forges a line."""
    event["event"] = _CONTROL.sub(lambda found: ascii(found[0])[1:-1], str(event["event"]))
    return event


def configure_logging(settings: Settings) -> None:
    """Routes the standard library's logging, ours and uvicorn's, through one formatter."""
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.ExtraAdder(),
        structlog.contextvars.merge_contextvars,  # the request's id
        one_line,
    ]
    last: list[structlog.typing.Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if settings.log_format == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The default prints every local, whole arrays and pictures included.
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("lookalike").setLevel(settings.log_level.upper())
    logging.getLogger("uvicorn").handlers.clear()
    logging.getLogger("uvicorn").propagate = True
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what is worth a line, the server says itself
