"""`lookalike evaluate QUERIES.csv`."""

from __future__ import annotations

import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.options import CollectionOption, DataDir, Json, a_path, must_exist, run_async, settings_for
from service.cli.sheets import Open, SheetFile, in_a_folder, show, view
from service.cli.terminal import PLAIN_EVERY_S, Gauge, err, out, print_json, print_table, table
from service.text import one_line, readable

if TYPE_CHECKING:
    from service.cli.evaluating import Wish
    from service.evaluation.evaluation import Evaluation
    from service.settings import Settings

_LABELS = 8  # the worst ones, which are shown


def _html(text: str) -> Path:
    path = a_path(text)
    if path.suffix.lower() not in (".html", ".htm"):
        raise typer.BadParameter(f"{text}: a report's name must end in .html")
    return in_a_folder(path)


def evaluate(
    queries: Annotated[
        Path,
        typer.Argument(
            metavar="QUERIES.csv",
            parser=a_path,
            help="Columns image (a path beside the file) and label, or id of the item; with neither in a row, the "
            "picture has no match.",
        ),
    ],
    strangers: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|ZIP|CSV", parser=a_path, help="More pictures that have no match."),
    ] = None,
    label: Annotated[
        str, typer.Option(metavar="KEY", help="The metadata key that a query's label is looked for under.")
    ] = "label",
    by: Annotated[
        Literal["label", "id"] | None,
        typer.Option(help="What makes an item right, where the table has both; default: label."),
    ] = None,
    compare: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="Another way to search the same pictures: model, precision, side (pixels), crop (crop, squash, pad) "
            "or threshold, joined by +; several values by commas. May be given again.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="FILE.html", parser=_html, help="Figures, plots and worst queries in one file."),
    ] = None,
    sheet: SheetFile = None,
    worst: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="The worst queries that are shown.")] = 12,
    open: Open = False,
    collection: CollectionOption = "default",
    data_dir: DataDir = None,
    json: Json = False,
) -> None:
    """Measure how good a collection's answers are, on pictures of which you know what they should find.

    Nothing is changed. What cannot be used is named, and the rest is evaluated. With --compare the catalogue's uploads
    are embedded again for each model, precision, side and crop, which takes as long as an import.

    Example: lookalike evaluate queries.csv --strangers street/ --report report.html --compare side=224,288,320
    """
    if open and sheet is None and report is None:
        raise typer.BadParameter("--open shows a file: name it with --report or --sheet")
    settings = settings_for(data_dir=data_dir)
    must_exist(settings)

    from service.cli.evaluating import Wish
    from service.evaluation.table import read_queries, read_strangers
    from service.evaluation.variants import parse

    variants = parse(compare or [])
    asked = read_queries(queries, label, by)
    if strangers is not None:
        foreign, complaints = read_strangers(strangers)
        asked.complaints.extend(complaints)
    else:
        foreign = []
    drawn = sheet is not None or report is not None
    found = run_async(_run(settings, Wish(collection, asked, foreign, label, variants, worst, drawn), quiet=json))
    if json:
        print_json(found.as_json())
    else:
        _show(found)
    if report is not None:
        _write_report(report, found, quiet=json)
        if open:
            view(report)
    if sheet is not None:
        from service.evaluation.drawn import worst_sheet

        show(sheet, worst_sheet(found), opened=open and report is None, quiet=json)


async def _run(settings: Settings, wish: Wish, *, quiet: bool) -> Evaluation:
    from service.cli.client import open_service
    from service.cli.evaluating import evaluated

    async with open_service(settings) as service:
        meter = _Steps(quiet)
        try:
            return await evaluated(service, settings, wish, meter)
        finally:
            meter.close()


class _Steps:
    """One bar for each step; where stderr is no terminal, a line every few seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._what = ""
        self._gauge: Gauge | None = None
        self._printed = time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if what != self._what:
            self.close()
            self._what = what
            self._gauge = Gauge(err(), what, quiet=self._quiet).__enter__()
        assert self._gauge is not None
        self._gauge(done, total)
        if not self._quiet and not err().is_terminal and time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            err().print(f"{done:,}/{total:,}  {what}", markup=False)

    def close(self) -> None:
        if self._gauge is not None:
            self._gauge.__exit__()
        self._gauge = None


def _write_report(file: Path, found: Evaluation, *, quiet: bool) -> None:
    from datetime import datetime

    from rich.markup import escape

    from service.evaluation.report import html
    from service.exports.export import Output

    text = html(found, datetime.now().astimezone().strftime("%d %B %Y, %H:%M"))
    with Output(file) as output:
        output.write(text.encode("utf-8", "replace"))
    if not quiet:
        out().print(f"[green]written[/]  {escape(readable(file))}")


def _show(found: Evaluation) -> None:
    from rich.markup import escape

    from service.evaluation.figures import AT
    from service.evaluation.report import COMPARED, SOURCES, compared, number, percent

    console, figures = out(), found.figures
    relevant = "the item named" if found.by == "id" else f"items with the query's {found.key}"
    console.print(
        f"[bold]{found.collection}[/]  {escape(found.model)}, {figures['items']:,} items; {figures['queries']:,} "
        f"queries and {figures['strangers']:,} pictures without a match; right: {escape(relevant)}"
    )
    if figures["queries"]:
        recalls = "  ".join(f"R@{k} [bold]{percent(figures[f'recall_at_{k}'])}[/]" for k in AT)
        mean = figures["mean_average_precision"]
        console.print(f"found       {recalls}  [dim]R@1 {_interval(figures['recall_at_1'])}[/]")
        console.print(
            f"ranked      mAP [bold]{number(mean)}[/] [dim]({mean['low']:.3f} to {mean['high']:.3f})[/]  "
            f"P@10 {number(figures['precision_at_10'])}"
        )
    no_match = figures["no_match"]
    console.print(f"threshold   {figures['threshold']:.4f}, {SOURCES.get(found.source, found.source)}")
    if no_match["kept"] is not None:
        console.print(f"kept        {percent(no_match['kept'])} [dim]{_interval(no_match['kept'])}[/]")
    if no_match["recall"] is not None:
        console.print(
            f"no match    precision {percent(no_match['precision'])} [dim]{_interval(no_match['precision'])}[/]  "
            f"recall {percent(no_match['recall'])} [dim]{_interval(no_match['recall'])}[/]"
        )
    if no_match["kept_at_rate"] is not None:
        console.print(
            f"parted      {no_match['parted']:.4f}; at {no_match['rate']:.2%} of strangers accepted "
            f"{percent(no_match['kept_at_rate'])} are kept"
        )
    if (spread := figures["false_accepts_by_label"]) is not None:
        opis = "" if figures["opis"] is None else f"; OPIS {figures['opis']:.4f}"
        console.print(
            f"false accepts by label  mean {spread['mean']:.2%}, spread {spread['spread']:.2%}, "
            f"most {escape(spread['worst']['label'])} {percent(spread['worst'])}{opis}"
        )
    answered = found.answered
    if answered.recall_at[1] is not None:
        shares = "  ".join(
            f"R@{k} {percent(asdict(each))}" for k, each in answered.recall_at.items() if each is not None
        )
        came = "" if answered.index_recall is None else f", {answered.index_recall:.1%} of the exact ten nearest"
        console.print(f"answered    {shares}  [dim]by the service to {answered.queries:,} of the queries{came}[/]")
    if answered.latency is not None:
        stages = "  ".join(f"{name} {each['p50']:g}/{each['p95']:g}" for name, each in answered.latency.items())
        console.print(f"a search    {stages}  [dim]ms, p50/p95[/]")
    if figures["labels"]:
        shown = table("worst labels", "queries", "R@1", "mAP", "taken for", right=("queries", "R@1", "mAP"))
        for each in figures["labels"][:_LABELS]:
            shown.add_row(
                escape(each["label"]),
                f"{each['queries']:,}",
                percent(each["recall_at_1"]),
                f"{each['mean_average_precision']:.3f}",
                escape(each["confused"] or ""),
            )
        console.print()
        print_table(console, shown)
    if found.rows:
        shown = table(*COMPARED, right=COMPARED[1:])
        for row in found.rows:
            shown.add_row(*(escape(cell) for cell in compared(row)))
        console.print()
        print_table(console, shown)
    for each in found.complaints:
        err().print(f"[yellow]note[/]  {escape(one_line(each.what))}  [dim]{escape(one_line(each.reason))}[/]")


def _interval(share: dict[str, float] | None) -> str:
    return "" if share is None else f"({share['low']:.1%} to {share['high']:.1%} of {share['count']:,})"
