"""Kinds of jobs: what each is called and what runs it. The one place that knows jobs and their work both."""

from __future__ import annotations

from service.http.problems import problem_of
from service.jobs.state import Trouble
from service.runtime import Runtime


def register(runtime: Runtime) -> None:
    """Names every kind of job of the application."""


def explained(error: Exception) -> Trouble | None:
    """An error as the API tells it; None for a bug."""
    problem = problem_of(error)
    return None if problem.slug == "internal" else Trouble(problem.slug, problem.detail)
