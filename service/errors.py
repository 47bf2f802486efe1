"""Everything the service refuses on its own account, as one tree: one line that says what is wrong and what to do.

ServiceError
├── Unavailable                 not now; `retry_after` says when to come back
│   ├── NotReady                starting, rebuilding an index
│   │   └── ShuttingDown        the process is about to end
│   └── Overloaded              more waits already than may wait
│       └── DeadlinePassed      the request waited longer than it may
├── InvalidRequest              the caller's input; `field` says where, `message` what
├── Unauthorized                no key, or one that opens nothing
├── Forbidden                   a key that opens other things
├── RateLimited                 a key that asks too often; `retry_after` says when to come back
├── QueryExpired                a picture that was searched with is not kept any more
├── UrlRefused                  a picture's address may not be fetched
└── UrlFailed                   it may, and what is there could not be had
    └── UrlTooLarge             more bytes than a picture may have

What a way in makes of them is its own affair: `service.http.problems` has the table for HTTP.
"""

from __future__ import annotations

from typing import TypeVar

E = TypeVar("E", bound=BaseException)


class ServiceError(Exception):
    """Base of everything `service` raises on purpose."""


class Unavailable(ServiceError):
    """The same request may succeed later. retry_after: seconds."""

    def __init__(self, message: str, retry_after: float = 2.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(Unavailable):
    """Starting, or rebuilding a search index."""


class ShuttingDown(NotReady):
    """The process ends once the work in hand is done."""

    def __init__(self) -> None:
        super().__init__("The service is shutting down")


class Overloaded(Unavailable):
    """More requests or bytes wait than may wait."""

    def __init__(self, retry_after: float, message: str = "Too many requests wait already; try again shortly") -> None:
        super().__init__(message, retry_after)


class DeadlinePassed(Overloaded):
    """The request's time ended while it waited for its turn."""

    def __init__(self) -> None:
        super().__init__(1.0, "The deadline passed while the picture waited; try again shortly")


class InvalidRequest(ServiceError):
    """The caller's input does not fit. field: which; message: what is wrong with it, without the input."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class Unauthorized(ServiceError):
    """No key was sent where one is needed, or one that is unknown, was revoked or has expired."""


class Forbidden(ServiceError):
    """The key is good, and not for this."""


class RateLimited(ServiceError):
    """The key asked more often than it may. retry_after: seconds."""

    def __init__(self, rate: str, retry_after: float) -> None:
        super().__init__(f"This key may ask {rate.replace('/', ' times per ')}; try again later")
        self.retry_after = retry_after


class QueryExpired(ServiceError):
    """There is no picture under this handle: it was kept for `seconds`, gave way to others, or never was."""

    def __init__(self, seconds: float) -> None:
        kept = f"pictures are kept for {seconds / 60:.0f} minutes at most"
        super().__init__(f"This query_id is not known any more: {kept}; upload it again")


class UrlRefused(ServiceError):
    """Fetching pictures by their address is switched off, or not allowed for this address."""


class UrlFailed(ServiceError):
    """A picture could not be fetched from its address."""


class UrlTooLarge(UrlFailed):
    """What is at the address has more bytes than a picture may have."""


def again(error: E) -> E:
    """A new exception of the same kind, arguments and attributes, caused by `error`: for one more who waited for it.

    An exception that several raise collects the tracebacks of all of them. `__init__` is not called again: its
    parameters need not be what it passed on as `args`.
    """
    reduced = error.__reduce__()  # beside `args`, an OSError holds its files' names
    assert isinstance(reduced, tuple)
    fresh = type(error).__new__(type(error), *reduced[1])
    fresh.args = error.args
    fresh.__dict__.update(vars(error))
    fresh.__cause__ = error
    return fresh
