"""A calibration as a picture: how strangers and genuine queries score, what thresholds do, and the chosen one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from service.drawing import colours
from service.drawing.plot import Line, Mark, Panel, density, plot

Scores = npt.NDArray[np.float64]

_POINTS = 240
WHOSE = {"pairs": "pictures that have a match", "catalogue": "items among themselves"}


def draw(value: Mapping[str, Any], name: str) -> bytes:
    """A PNG. value: a calibration as it is kept, or as it is described; name: the collection's."""
    strangers = np.asarray(value.get("strangers", ()), np.float64)
    genuine = np.asarray(value.get("genuine", ()), np.float64)
    least = float(value["score_threshold"])
    panels = [_densities(strangers, genuine, least, WHOSE[value["kept_of"]]), _curve(value, strangers, genuine, least)]
    return plot(panels, title=f"Calibration of {name}", note=_note(value))


def _note(value: Mapping[str, Any]) -> str:
    parts = [f"a match scores at least {value['score_threshold']:.4f}"]
    if (false := value["false_accepts"]) is not None:
        parts.append(
            f"false accepts {false['value']:.1%} of {false['count']:,} ({false['low']:.1%} to {false['high']:.1%}), "
            f"asked {value['false_accept_rate']:.4g}"
        )
    if (kept := value["kept"]) is not None:
        parts.append(f"kept {kept['value']:.1%} of {kept['count']:,} ({kept['low']:.1%} to {kept['high']:.1%})")
    return "; ".join(parts)


def _densities(strangers: Scores, genuine: Scores, least: float, whose: str) -> Panel:
    every = np.concatenate([strangers, genuine, [least]])
    low, high = max(-1.0, float(every.min()) - 0.05), min(1.0, float(every.max()) + 0.05)
    xs = np.linspace(low, high, _POINTS)
    lines = [
        Line(xs.tolist(), density(scores, xs).tolist(), colour, f"{name} ({len(scores):,})", area=True)
        for scores, colour, name in ((strangers, colours.BAD, "without a match"), (genuine, colours.KEY, whose))
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


def _curve(value: Mapping[str, Any], strangers: Scores, genuine: Scores, least: float) -> Panel:
    """Kept against falsely accepted where both were measured and their scores kept, else each against the threshold."""
    if len(strangers) and len(genuine):
        every = np.unique(np.concatenate([strangers, genuine, [least]]))[::-1]
        accepted, kept = _reaching(strangers, every), _reaching(genuine, every)
        marks = [Mark(float(_reaching(strangers, [least])[0]), "chosen", y=float(_reaching(genuine, [least])[0]))]
        if (point := value["recommended"]) is not None:
            best = point["false_accepts"]["value"], point["kept"]["value"]
            marks.append(Mark(best[0], "best parted", colours.GOOD, y=best[1]))
        # Where both part well, all that matters happens at the left.
        widest = 1.0 if _reaching(genuine, [_upper(strangers)])[0] < 0.8 else 0.25
        shown = [(x, y) for x, y in zip(accepted, kept, strict=True) if x <= widest]
        end = 1.0 if widest == 1 or not shown else shown[-1][1]
        return Panel(
            "What each threshold does (ROC)" if widest == 1 else "What each threshold does (ROC, its left quarter)",
            "without a match, accepted",
            "kept",
            lines=[
                Line([0.0, widest], [0.0, widest], "#b9bec7", "by chance", dashed=True),
                Line(
                    [0.0, *(x for x, _ in shown), widest], [0.0, *(y for _, y in shown), end], colours.KEY, "measured"
                ),
            ],
            marks=marks,
            x=(0.0, widest),
            y=(0.0, 1.0),
            percent=True,
        )
    xs = [each["score_threshold"] for each in value["curve"]]
    lines = []
    if value["kept"] is not None:
        lines.append(Line(xs, [each["kept"] for each in value["curve"]], colours.KEY, "kept"))
    if value["false_accepts"] is not None:
        accepted = [each["false_accepts"] for each in value["curve"]]
        lines.append(Line(xs, accepted, colours.BAD, "accepted without a match"))
    return Panel(
        "What each threshold does",
        "threshold",
        "share",
        lines=lines,
        marks=[Mark(least, f"threshold {least:.3f}")],
        y=(0.0, 1.0),
    )


def _upper(strangers: Scores) -> float:
    """The score that a quarter of the strangers reach."""
    return float(np.quantile(strangers, 0.75))


def _reaching(scores: Scores, thresholds: Any) -> list[float]:
    """The share of increasing or other scores that reach each threshold; zeros without scores."""
    if not len(scores):
        return [0.0] * len(thresholds)
    ordered = np.sort(scores)
    found: list[float] = (1 - np.searchsorted(ordered, np.asarray(thresholds), side="left") / len(ordered)).tolist()
    return found
