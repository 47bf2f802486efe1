"""What a person sees: results on stdout, progress and errors on stderr, colours only on a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console

from service.text import one_line

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from service.imports.tally import Tally

# Into a pipe or a file nothing is cut to a terminal's width.
WIDE = 200
PLAIN_EVERY_S = 5.0


def out(*, quiet: bool = False) -> Console:
    """Results."""
    terminal = sys.stdout.isatty()
    return Console(highlight=False, soft_wrap=not terminal, width=None if terminal else WIDE, quiet=quiet)


def err() -> Console:
    """Everything beside the results."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout, in its encoding; what that lacks is escaped as JSON has it."""
    import orjson

    text = orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()
    try:
        text.encode(sys.stdout.encoding)
    except UnicodeEncodeError:
        text = json.dumps(value, indent=2)
    sys.stdout.write(text + "\n")


def table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty table in the house style. right: columns that hold numbers."""
    from rich.table import Table

    made = Table(box=None, padding=(0, 2, 0, 0), header_style="bold", pad_edge=False)
    for name in columns:
        made.add_column(name, justify="right" if name in right else "left", overflow="ellipsis", no_wrap=True)
    return made


def print_table(console: Console, made: Table) -> None:
    """Prints a table; where it is too wide its last column gives way, not all of them alike."""
    from rich.text import Text

    left = console.width
    for column in made.columns[:-1]:
        widest = max(Text.from_markup(str(cell)).cell_len for cell in (column.header, *column.cells))
        column.width = min(48, widest)
        left -= column.width + 2
    made.columns[-1].max_width = max(8, left)
    console.print(made)


def inline(metadata: Mapping[str, Any]) -> str:
    """Metadata in one line, keys dimmed; what is empty is left out."""
    from rich.markup import escape

    return "  ".join(
        f"[dim]{escape(str(key))}[/] {escape(str(value))}" for key, value in metadata.items() if value != ""
    )


def bad_rows(rows: Iterable[tuple[str, str]]) -> None:
    """Names pictures or rows that were not imported, and why, on stderr."""
    from rich.markup import escape

    console = err()
    for name, reason in rows:
        console.print(f"[red]bad[/]  {escape(one_line(name))}  [dim]{escape(one_line(reason))}[/]")


def bar(score: float, width: int = 10) -> str:
    """A score from 0 to 1 as a bar of eighths of a character."""
    eighths = round(max(0.0, min(1.0, score)) * width * 8)
    full, rest = divmod(eighths, 8)
    return "█" * full + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


class Meter:
    """An import's progress: a bar on a terminal, a line every few seconds elsewhere, nothing when `quiet`."""

    def __init__(self, console: Console, *, quiet: bool = False) -> None:
        self._console = console
        self._quiet = quiet
        self._printed = time.monotonic()
        self._progress: Progress | None = None
        self._task: Any = None

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._quiet or not self._console.is_terminal:
            yield
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._progress = Progress(
            BarColumn(bar_width=32),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[bad]}"),
            console=self._console,
            transient=True,
            refresh_per_second=4,  # drawing costs milliseconds, and the embedder has better use for them
        )
        with self._progress:
            self._task = self._progress.add_task("import", total=None, rate="", bad="")
            yield

    def __call__(self, tally: Tally) -> None:
        """Shows how far an import is."""
        bad = f"{len(tally.bad):,} bad" if tally.bad else ""
        if self._progress is not None:
            rate = f"{tally.images_per_second:.1f} images/s"
            self._progress.update(
                self._task, total=tally.total, completed=tally.handled, rate=rate, bad=f"[red]{bad}[/]" if bad else ""
            )
        elif not self._quiet and time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            self._console.print(plain_progress(tally))


def plain_progress(tally: Tally) -> str:
    """ "120/300  61.8 images/s  3 s left  2 bad"."""
    speed = tally.handled / tally.seconds if tally.seconds > 0 else 0.0
    left = f"  {(tally.total - tally.handled) / speed:.0f} s left" if speed > 0 else ""
    bad = f"  {len(tally.bad):,} bad" if tally.bad else ""
    return f"{tally.handled:,}/{tally.total:,}  {tally.images_per_second:.1f} images/s{left}{bad}"


class Gauge:
    """Progress of one long step as `gauge(done, total)`: a bar on a terminal, nothing elsewhere or when `quiet`."""

    def __init__(self, console: Console, what: str, *, quiet: bool = False) -> None:
        self._console = console
        self._what = what
        self._progress: Progress | None = None
        self._quiet = quiet or not console.is_terminal

    def __enter__(self) -> Gauge:
        if not self._quiet:
            from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

            columns = (TextColumn("{task.description}"), BarColumn(bar_width=32), TimeRemainingColumn(compact=True))
            self._progress = Progress(*columns, console=self._console, transient=True)
            self._progress.start()
            self._progress.add_task(self._what, total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._progress is not None:
            self._progress.stop()

    def __call__(self, done: int, total: int) -> None:
        if self._progress is not None:
            self._progress.update(self._progress.task_ids[0], completed=done, total=total)
