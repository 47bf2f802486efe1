"""The command `lookalike`: exit code 0 only on success, and an error is one line on stderr without a traceback."""

from __future__ import annotations

import atexit
import codecs
import io
import os
import sys
from typing import Annotated, NoReturn

import typer
from typer.exceptions import Abort, TyperException

from service.cli import (
    adopt,
    calibrate,
    erase,
    evaluate,
    export,
    import_,
    keys,
    model,
    neighbors,
    search,
    serve,
    upkeep,
)
from service.cli.options import INTERRUPTED, Command, Group

# Errors that are shown as they are, by full name: naming a class must not cost importing its module.
EXPECTED = frozenset(
    (
        "builtins.OSError",
        "index.errors.StoreError",
        "models.errors.ModelsError",
        "service.cli.client.RequestFailed",
        "service.cli.client.ServerLost",
        "service.errors.ServiceError",
        "service.evaluation.truth.EvaluationRefused",
        "service.evaluation.variants.VariantRefused",
        "service.imports.roots.RootConflict",
        "service.imports.sources.source.SourceError",
        "service.owner.OwnerError",
        "service.quality.pairs.PairsRefused",
        "service.settings.SettingsError",
        "service.imports.sources.vectors.sieve.VectorFileError",
        "service.imports.upgrades.upgrade.UpgradeRefused",
    )
)

app = typer.Typer(
    name="lookalike",
    cls=Group,
    help="Upload a photograph, get the most similar pictures of a catalogue, or an honest “no similar images”.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(cls=Command)(serve.serve)
app.command("import", cls=Command)(import_.import_)
app.command(cls=Command)(search.search)
app.command(cls=Command)(export.export)
app.command(cls=Command)(neighbors.neighbors)
app.command(cls=Command)(upkeep.verify)
app.command(cls=Command)(calibrate.calibrate)
app.command(cls=Command)(evaluate.evaluate)
app.command(cls=Command)(adopt.adopt)
app.command(cls=Command)(erase.erase)
app.command(cls=Command)(keys.audit)
app.add_typer(keys.app, name="keys")
app.add_typer(upkeep.app, name="snapshot")
app.add_typer(model.app, name="model")


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lookalike {version('lookalike')}")
        raise typer.Exit


@app.callback()
def root(
    show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """The entry point: runs a command and ends the process with its exit code."""
    _open_streams()
    try:
        code = app(standalone_mode=False)
    except Exception as error:  # noqa: BLE001 (the last stop: whatever it is, it ends in one line)
        code = _failed(error)
    except KeyboardInterrupt:
        sys.stderr.write("\nlookalike: interrupted\n")
        code = INTERRUPTED
    _leave(code if isinstance(code, int) else 0)


def _leave(code: int) -> NoReturn:
    """Ends the process, with what is registered for its end, but without taking libraries down.

    The allocator that pyarrow brings has a thread, for which an end in the usual way sometimes waits for ever.
    """
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception as error:  # noqa: BLE001 (the last stop, as above)
            code = code or _failed(error)
    os._exit(code)


def _open_streams() -> None:
    """A standard stream that came closed becomes /dev/null, before a database takes its number and is printed into."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    codecs.register_error("lookalike", _spelt)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")


# What to write where an output's encoding lacks a character of ours; of other people's, the number.
PLAIN = str.maketrans({
    "“": '"', "”": '"', "’": "'", "…": "...", "–": "-", "·": "-", "→": "->", "█": "#", "▉": "#", "▊": "#", "▋": "#",
    "▌": "#", "▍": "-", "▎": "-", "▏": "-",
})  # fmt: skip


def _spelt(error: UnicodeError) -> tuple[str, int]:
    """Writes what an encoding cannot carry in ASCII: a name that is no UTF-8 must not end a command."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end].translate(PLAIN)
    return text.encode("ascii", "backslashreplace").decode(), error.end


def _failed(error: BaseException) -> int:
    """Writes an error to stderr and returns the exit code."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BrokenPipeError):
        # Whoever read our output has left (`| head`): nothing more may be written.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if isinstance(error, Abort):
        sys.stderr.write("lookalike: interrupted\n")
        return INTERRUPTED
    if isinstance(error, TyperException) and not error.format_message():
        return error.exit_code  # a command without arguments: its help was shown
    line, code = explain(error)
    sys.stderr.write(f"lookalike: {line}\n")
    if code == UNEXPECTED and os.environ.get("LOOKALIKE_LOG_LEVEL") == "debug":
        import traceback

        traceback.print_exception(error)
    return code


UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h


def explain(error: BaseException) -> tuple[str, int]:
    """An error as one line, and the exit code it ends the command with."""
    if isinstance(error, TyperException):
        return _line(error.format_message()), error.exit_code
    if isinstance(error, OSError):
        named = f"{error.filename}: " if error.filename is not None else ""
        return _line(f"{named}{error.strerror or error}"), 1
    if any(f"{cls.__module__}.{cls.__qualname__}" in EXPECTED for cls in type(error).__mro__):
        return _line(str(error)), 1
    hint = "this is a bug; LOOKALIKE_LOG_LEVEL=debug shows where"
    return _line(f"{type(error).__name__}: {str(error)[:200]} ({hint})"), UNEXPECTED


def _line(text: str) -> str:
    return " ".join(text.split()) or "unknown error"


if __name__ == "__main__":
    main()
