"""Options that several commands share, and the settings they add up to."""

from __future__ import annotations

import errno
from collections.abc import Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup

from index.limits import NAME, NAME_RULE
from service.cli.terminal import err

if TYPE_CHECKING:
    from service.settings import Settings

R = TypeVar("R")

INTERRUPTED = 130  # the exit code of a shell for what SIGINT ended: 128 + 2

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="Catalogue, models and originals. [LOOKALIKE_DATA_DIR, ./data]"),
]


def a_path(text: str) -> Path:
    """An argument as a path. An empty one, as an unset variable gives it, is not the current folder."""
    if not text:
        raise typer.BadParameter("the name is empty")
    return Path(text)


def _collection(name: str) -> str:
    if not NAME.fullmatch(name):
        raise typer.BadParameter(f"a collection's name is {NAME_RULE}")
    return name


CollectionOption = Annotated[
    str, typer.Option("--collection", "-c", metavar="NAME", help="The collection.", callback=_collection)
]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]


class Command(TyperCommand):
    """A command whose help shows a flag as a flag, and not as an option that takes a value."""

    def get_params(self, ctx: Any) -> Any:
        return _flagged(super().get_params(ctx))


class Group(TyperGroup):
    """The same for a group of commands."""

    def get_params(self, ctx: Any) -> Any:
        return _flagged(super().get_params(ctx))


def _flagged(parameters: Any) -> Any:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


def settings_for(**overrides: Any) -> Settings:
    """Settings from the environment, `.env` and a command's options (None: not given); warnings go to stderr.

    Raises SettingsError.
    """
    from service.settings import load_settings

    settings, warnings = load_settings(**overrides)
    for warning in warnings:
        err().print(f"warning: {warning}", style="yellow", markup=False)
    return settings


def must_exist(settings: Settings) -> None:
    """Raises FileNotFoundError where the data directory holds no catalogue: a slip of the pen must not make one."""
    from index.open import exists

    if not exists(settings.data_dir):
        raise FileNotFoundError(errno.ENOENT, "there is no catalogue in this directory", str(settings.data_dir))


def run_async(work: Coroutine[Any, Any, R]) -> R:
    """Runs a command's coroutine on uvloop where it is, which halves what a bulk import pays for its event loop."""
    import asyncio

    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)
