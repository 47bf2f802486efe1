"""The service's own errors: each has an answer over HTTP, and one that several waited for is fresh for each."""

from __future__ import annotations

import pytest

from index.errors import CollectionNotFound, FilterError
from models.errors import ImageTooLarge
from service import errors
from service.http.problems import problem_of

KINDS: list[tuple[errors.ServiceError, int, str, str | None]] = [
    (errors.NotReady("The model does not answer"), 503, "not-ready", "2"),
    (errors.NotReady("A long build", 40.4), 503, "not-ready", "40"),
    (errors.ShuttingDown(), 503, "not-ready", "2"),
    (errors.Overloaded(7.6), 503, "overloaded", "8"),
    (errors.Overloaded(0.1), 503, "overloaded", "1"),
    (errors.DeadlinePassed(), 503, "overloaded", "1"),
    (errors.InvalidRequest("crop", "not a part of the picture"), 422, "invalid-request", None),
    (errors.Unauthorized("Send a key"), 401, "unauthorized", None),
    (errors.Forbidden("This needs another key"), 403, "forbidden", None),
    (errors.RateLimited("2/hour", 30.2), 429, "rate-limited", "30"),
    (errors.QueryExpired(900.0), 404, "not-found", None),
    (errors.UrlRefused("switched off"), 422, "url-refused", None),
    (errors.UrlTooLarge("larger than 20 MiB"), 502, "url-failed", None),
]


@pytest.mark.parametrize(("error", "status", "slug", "retry_after"), KINDS)
def test_an_error_of_the_service_has_its_problem(
    error: errors.ServiceError, status: int, slug: str, retry_after: str | None
) -> None:
    problem = problem_of(error)
    assert (problem.status, problem.slug, problem.headers.get("Retry-After")) == (status, slug, retry_after)
    assert problem.detail == str(error)


def test_a_refused_field_is_named() -> None:
    assert problem_of(errors.InvalidRequest("crop", "too small")).errors == [{"field": "crop", "message": "too small"}]


def leaves(cls: type[Exception]) -> set[type[Exception]]:
    below = cls.__subclasses__()
    return set().union(*(leaves(each) for each in below)) if below else {cls}


def test_no_error_of_the_service_is_answered_as_a_bug() -> None:
    own = {each for each in leaves(errors.ServiceError) if each.__module__ == errors.__name__}
    assert own <= {type(error) for error, *_ in KINDS}


@pytest.mark.parametrize(
    "error",
    [
        errors.Overloaded(3.0),
        errors.DeadlinePassed(),
        errors.InvalidRequest("crop", "too small"),
        FilterError("must[0].key", "missing"),
        CollectionNotFound("No collection x"),
        ImageTooLarge("too many pixels"),
        ValueError("one", 2),
        OSError(28, "No space left on device", "/tmp/x"),
    ],
)
def test_an_error_is_raised_again_as_another_object_that_says_the_same(error: Exception) -> None:
    fresh = errors.again(error)
    assert fresh is not error and type(fresh) is type(error)
    assert (str(fresh), fresh.args, vars(fresh)) == (str(error), error.args, vars(error))
    assert fresh.__cause__ is error and fresh.__traceback__ is None
    assert problem_of(fresh).details("/") == problem_of(error).details("/")
