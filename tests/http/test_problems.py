"""Every exception that the rooms below raise on purpose has its problem; whatever else is raised is a bug."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest
from fastapi import Request, Response

import index.errors
import models.errors
import service.errors
from service.http.problems import SLUGS, problem_of
from service.http.routing import Direct
from service.http.schemas.problems import KINDS, FieldError

HANDLED_APART = {service.errors.InvalidRequest, index.errors.FilterError}


@pytest.mark.parametrize("module", [index.errors, models.errors, service.errors], ids=lambda module: module.__name__)
def test_the_table_is_complete(module: ModuleType) -> None:
    """Each leaf of each tree is there itself or under a parent; only roots and branches are left to their leaves."""
    kinds = [each for _, each in inspect.getmembers(module, inspect.isclass) if issubclass(each, Exception)]
    leaves = [each for each in kinds if not each.__subclasses__()]
    assert len(leaves) > 3
    for leaf in leaves:
        assert leaf in HANDLED_APART or any(each in SLUGS for each in leaf.__mro__), leaf
    assert set(SLUGS.values()) <= KINDS.keys()


def test_only_what_may_succeed_later_says_when() -> None:
    assert problem_of(service.errors.Overloaded(7.4)).headers == {"Retry-After": "7"}
    assert problem_of(service.errors.ShuttingDown()).headers.keys() == {"Retry-After"}
    assert problem_of(index.errors.IndexNotReady("wait")).headers == {"Retry-After": "2"}
    assert problem_of(index.errors.StorageFull("full")).headers == {}


def test_a_bug_says_nothing_of_the_inside() -> None:
    """An answer that does not fit its type is one too, not the caller's fault."""
    with pytest.raises(ValueError) as failed:
        FieldError.model_validate({"field": 3})
    for error in (RuntimeError("secret"), KeyError("secret"), index.errors.StoreCorrupt("secret"), failed.value):
        problem = problem_of(error)
        assert (problem.slug, problem.status) == ("internal", 500)
        assert "secret" not in problem.detail


def test_a_parameter_that_nothing_fills_is_refused_when_the_route_is_made() -> None:
    async def lost(request: Request, basket: str) -> Response:
        return Response()

    with pytest.raises(TypeError, match="nothing fills basket"):
        Direct("/v1/lost", lost)
