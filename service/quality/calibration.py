"""A calibration: from scores to a threshold, and what it was measured to do. Pure: arrays in, a document out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from service.quality import conformal
from service.quality.catalogue import SAME, Asked, scores
from service.quality.pairs import Genuine, recommended, scores_of
from service.quality.shares import share

DEFAULT_RATE = 0.01
# Without pictures that have no match: the share of the catalogue's own items that may fall below the threshold.
LOST = 0.05
# Growth of a catalogue from which on a threshold is out of date: the best of more items scores more.
GROWTH = 1.5
# By how much the same picture may score differently another time: batches and indexes round differently.
ROUNDING = 2e-4
MAX_NAMED = 100  # pictures and classes that are named; all are counted
MAX_KEPT = 20_000  # scores that are kept for p-values; of more, evenly spaced ones
MAX_DRAWN = 2_000  # scores of genuine queries that are kept, to be drawn
LEAST_KEPT = 20  # genuine queries of which all being kept says that the negatives were easy
LEAST_OF_CLASS = 5  # queries from which on a class can be called the worst

ALIKE = "the rate holds for pictures like the negatives; other strangers may score more"
# Measured: negatives that no genuine query scores below let 7 to 100 % of harder strangers in (benchmarks/RESULTS.md).
EASY = "every genuine query scores above the negatives: they are easy ones, and such as people really send may get in"


class CalibrationRefused(Exception):
    """There is too little to calibrate on. One line: what is missing."""


@dataclass(frozen=True, slots=True)
class Stranger:
    """A picture that should have no match. score: of the nearest item, `id`."""

    name: str
    score: float
    id: str


def calibrate(
    strangers: Sequence[Stranger] | None,
    genuine: Sequence[Genuine],
    asked: Sequence[Asked],
    *,
    rate: float,
    count: int,
    fingerprint: str,
    failed: Sequence[Mapping[str, str]],
) -> dict[str, Any]:
    """The calibration as it is kept. asked: the catalogue's own items as queries; count: items of the catalogue.

    strangers: None where none were sent; then the threshold is a quantile of the genuine queries' scores, and without
    any of those of the catalogue's own. fingerprint: of the model that all scores are of. failed: pictures that could
    not be used. Raises CalibrationRefused.
    """
    by_pictures = strangers is not None
    strangers = strangers or []
    inside = [each for each in strangers if each.score >= SAME]
    used = sorted(each.score for each in strangers if each.score < SAME)
    own = scores(asked)
    if by_pictures:
        least = _by_strangers(used, rate, len(inside), len(failed))
    elif genuine and len(genuine) < conformal.least_count(LOST):
        raise CalibrationRefused(
            f"pairs alone need at least {conformal.least_count(LOST)} pictures that can be used, and there are "
            f"{len(genuine)}"
        )
    elif genuine:
        least = conformal.lower(scores_of(genuine), LOST)
    elif len(own) < conformal.least_count(LOST):
        raise CalibrationRefused(
            f"the catalogue has {len(own):,} items with another one to be compared with, and without pictures that "
            f"have no match at least {conformal.least_count(LOST)} are needed"
        )
    else:
        least = conformal.lower(own, LOST)
    queries = scores_of(genuine) if genuine else own
    kept = share(int((queries >= least).sum()), len(queries))
    point = recommended(scores_of(genuine), np.array(used, np.float32))
    false = share(int((np.array(used, np.float32) >= least).sum()), len(used))
    classes = _classes(asked, least)
    return {
        "score_threshold": least,
        "method": "negatives" if by_pictures else "pairs" if genuine else "catalogue",
        "false_accept_rate": rate if by_pictures else None,
        "false_accepts": asdict(false) if by_pictures else None,
        "kept": asdict(kept) if len(queries) else None,
        "kept_of": "pairs" if genuine else "catalogue",
        "nearest_right": asdict(share(sum(each.right for each in genuine), len(genuine))) if genuine else None,
        "recommended": None if point is None else asdict(point),
        "worst_class": next((each for each in classes if each["count"] >= LEAST_OF_CLASS), None),
        "classes": classes[:MAX_NAMED],
        "negatives": len(used),
        "in_catalogue_count": len(inside),
        "in_catalogue": [asdict(each) for each in inside[:MAX_NAMED]],
        "suspected": [asdict(each) for each in _suspected(strangers, own)[:MAX_NAMED]],
        "failed_count": len(failed),
        "failed": [dict(each) for each in failed[:MAX_NAMED]],
        "curve": _curve(used, queries),
        "count": count,
        "fingerprint": fingerprint,
        "strangers": _thinned(used),
        "genuine": _thinned(np.sort(queries).tolist(), MAX_DRAWN),
    }


def warnings(value: Mapping[str, Any], count: int) -> list[str]:
    """What a person should know of a calibration that is in force. count: items there are now."""
    told = []
    if count >= GROWTH * value["count"]:
        told.append(f"the catalogue had {value['count']:,} items then and has {count:,} now: calibrate again")
    if value["method"] != "negatives":
        told.append("false accepts were not measured: calibrate with pictures that have no match")
    else:
        told.append(ALIKE)
        if value["kept"] is not None and value["kept"]["hits"] == value["kept"]["count"] >= LEAST_KEPT:
            told.append(EASY)
    if value["in_catalogue_count"]:
        told.append(f"{value['in_catalogue_count']:,} negatives are in the catalogue and were left out")
    if value["failed_count"]:
        told.append(f"{value['failed_count']:,} pictures could not be used")
    if value["suspected"]:
        told.append(f"{len(value['suspected'])} negatives score like items among themselves: look whether they match")
    if value["kept"] is not None and value["kept"]["value"] < 0.5:
        whose = "the pairs' pictures" if value["kept_of"] == "pairs" else "the catalogue's own items"
        told.append(f"less than half of {whose} would find anything: another rate or model may keep more")
    return told


def _by_strangers(used: Sequence[float], rate: float, inside: int, failed: int) -> float:
    needed = conformal.least_count(rate)
    if len(used) < needed:
        gone = [f"{inside} are in the catalogue"] if inside else []
        gone += [f"{failed} could not be used"] if failed else []
        left = f" ({', '.join(gone)})" if gone else ""
        possible = f"; {len(used)} allow {_percent(conformal.smallest_rate(len(used)))}" if used else ""
        raise CalibrationRefused(
            f"a false-accept rate of {_percent(rate)} needs {needed:,} pictures without a match, and there are "
            f"{len(used):,}{left}{possible}"
        )
    return min(1.0, conformal.threshold(np.array(used, np.float32), rate) + ROUNDING)


def _percent(rate: float) -> str:
    return f"{np.ceil(rate * 1e5) / 1e3:g} %"


def _classes(asked: Sequence[Asked], least: float) -> list[dict[str, Any]]:
    """What is kept of each label, the worst first."""
    by_label: dict[str, list[float]] = defaultdict(list)
    for each in asked:
        if each.label:
            by_label[each.label].append(each.score)
    rows = [
        {"label": label, **asdict(share(sum(score >= least for score in own), len(own)))}
        for label, own in by_label.items()
    ]
    return sorted(rows, key=lambda row: (row["value"], -row["count"], row["label"]))


def _suspected(strangers: Sequence[Stranger], own: conformal.Scores) -> list[Stranger]:
    """Those as near to an item as half of the items are to one another, nearest first."""
    if not len(own):
        return []
    usual = float(np.median(own))
    return sorted((each for each in strangers if usual <= each.score < SAME), key=lambda each: -each.score)


def _curve(used: Sequence[float], own: conformal.Scores) -> list[dict[str, float]]:
    """What every fiftieth of the range of scores would accept and keep, as a threshold."""
    every = np.concatenate([np.array(used, np.float32), own])
    if not len(every):
        return []
    strangers = np.array(used, np.float32)
    return [
        {
            "score_threshold": round(float(least), 4),
            "false_accepts": round(float((strangers >= least).mean()), 5) if len(strangers) else 0.0,
            "kept": round(float((own >= least).mean()), 5) if len(own) else 0.0,
        }
        for least in np.linspace(every.min(), every.max(), 50)
    ]


def _thinned(used: Sequence[float], most: int = MAX_KEPT) -> list[float]:
    """Increasing scores, of very many evenly spaced ones."""
    if len(used) > most:
        places = np.linspace(0, len(used) - 1, most).round().astype(int)
        used = [used[place] for place in places]
    return list(used)
