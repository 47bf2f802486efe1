"""An evaluation as pictures: its plots, and the worst queries on a contact sheet."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from service.drawing import colours
from service.drawing.plot import Bars, Line, Mark, Panel, density, plot
from service.drawing.sheet import Cell, Row, sheet
from service.evaluation.evaluation import Evaluation
from service.evaluation.figures import AT, best_scores

_POINTS = 240
Scores = npt.NDArray[np.float64]


def plots(found: Evaluation) -> bytes:
    """A PNG: what is found among the first, how scores lie, and what each threshold would do."""
    genuine, strangers = best_scores(found.seen, strangers=False), best_scores(found.seen, strangers=True)
    panels = []
    if len(genuine):
        shares = [found.figures[f"recall_at_{k}"] for k in AT]
        bars = Bars(
            [f"first {k}" if k > 1 else "first" for k in AT],
            [each["value"] for each in shares],
            colours.KEY,
            [each["low"] for each in shares],
            [each["high"] for each in shares],
        )
        panels.append(Panel("Queries with a right item among", "", bars=bars, y=(0, 1), percent=True))
    panels.append(_densities(genuine, strangers, found.figures["threshold"]))
    if len(genuine):
        panels.append(_thresholds(genuine, strangers, found.figures["threshold"]))
    return plot(panels)


def worst_sheet(found: Evaluation, shown: int = 6) -> bytes:
    """A PNG: each of the worst queries with what came first; green frames are right, orange ones wrong."""
    rows = []
    least = found.figures["threshold"]
    for number in found.worst:
        judged, wanted = found.seen.ranked.judged[number], found.seen.wanted[number]
        if wanted:
            first = f"the first right one is number {judged.first:,} of {len(found.listed):,}"
            title = f"{wanted}: {first}; average precision {judged.average_precision:.3f}"
        else:
            title = f"no match expected; the nearest scores {judged.best or 0:.3f}, a match at least {least:.3f}"
        cells = []
        for place, score, right in list(zip(judged.nearest, judged.scores, judged.right, strict=True))[:shown]:
            id, labels = found.listed.ids[place], found.listed.labels[place]
            cells.append(
                Cell(
                    found.thumbnails.get(id),
                    labels[0] if labels else id,
                    f"{score:.3f}  {id}" if labels else f"{score:.3f}",
                    "good" if right else "bad" if score >= least or wanted else "faint",
                )
            )
        name = found.seen.names[number].rpartition("/")[2]
        rows.append(Row(Cell(found.pictures.get(number), name, "query", "key"), cells, title))
    title = f"Worst queries of {found.collection}" if rows else f"No query of {found.collection} went wrong"
    return sheet(rows, title=title, note="green frames are right, orange ones wrong", columns=shown, side=132)


def _densities(genuine: Scores, strangers: Scores, least: float) -> Panel:
    every = np.concatenate([genuine, strangers, [least]])
    low, high = max(-1.0, float(every.min()) - 0.05), min(1.0, float(every.max()) + 0.05)
    xs = np.linspace(low, high, _POINTS)
    lines = [
        Line(xs.tolist(), density(scores, xs).tolist(), colour, f"{name} ({len(scores):,})", area=True)
        for scores, colour, name in ((strangers, colours.BAD, "no match"), (genuine, colours.KEY, "has a match"))
        if len(scores)
    ]
    return Panel(
        "How the nearest item scores",
        "cosine of the nearest item",
        lines=lines,
        marks=[Mark(least, f"threshold {least:.3f}")],
        x=(low, high),
        bare=True,
    )


def _thresholds(genuine: Scores, strangers: Scores, least: float) -> Panel:
    xs = np.linspace(min(least, float(genuine.min())) - 0.02, 1.0, _POINTS)
    lines = [Line(xs.tolist(), [float((genuine >= x).mean()) for x in xs], colours.KEY, "kept of those with a match")]
    if len(strangers):
        accepted = [float((strangers >= x).mean()) for x in xs]
        lines.append(Line(xs.tolist(), accepted, colours.BAD, "accepted without one"))
    return Panel(
        "What each threshold would do",
        "threshold",
        "share of queries",
        lines=lines,
        marks=[Mark(least, f"threshold {least:.3f}")],
        x=(float(xs[0]), 1.0),
        y=(0, 1),
    )
