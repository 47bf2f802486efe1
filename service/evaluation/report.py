"""An evaluation as one file of HTML: no script, nothing from elsewhere, readable in light and dark, and on paper."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from typing import Any

from PIL import Image

from service.evaluation.drawn import plots, worst_sheet
from service.evaluation.evaluation import Evaluation, Row
from service.evaluation.figures import AT, LEAST_OF_LABEL

SOURCES = {
    "request": "as asked",
    "collection": "set for the collection",
    "calibrated": "calibrated",
    "model_default": "the model's default",
}
MAX_ROWS = 2_000  # of the table of labels and of what is left out

STYLE = """
:root{--ink:#1a1d23;--dim:#636a76;--line:#dcdfe5;--card:#f5f6f8;--key:#1f5fbf;--paper:#fff}
@media(prefers-color-scheme:dark){
:root{--ink:#e8eaee;--dim:#a0a7b4;--line:#3a3f49;--card:#23272e;--key:#7fb0ff;--paper:#181b20}}
*{box-sizing:border-box}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper)}
body{max-width:1120px;margin:0 auto;padding:24px}
h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;margin:36px 0 10px}p{margin:4px 0 12px}
.dim,.cards small,th{color:var(--dim)}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:18px 0}
.cards div{background:var(--card);border-radius:8px;padding:10px 14px}
.cards b{display:block;font-size:24px;font-weight:600;line-height:1.25}
.cards small{display:block;font-size:12px}
img{max-width:100%;height:auto;border-radius:8px;background:#fff}
.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:5px 12px 5px 0;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
th{font-weight:500;font-size:13px}
th:first-child,td:first-child,.text{text-align:left;white-space:normal;overflow-wrap:anywhere}
td.bar{min-width:118px;width:118px;text-align:left}
.bar i{display:inline-block;height:10px;border-radius:2px;background:var(--key);vertical-align:baseline}
.best{font-weight:650}
""".strip()


def html(found: Evaluation, made: str) -> str:
    """The report. made: when, as a person reads it."""
    figures = found.figures
    least = f"{figures['threshold']:.4f}, {SOURCES.get(found.source, found.source)}"
    relevant = "the item that it names" if found.by == "id" else f"every item with its value of “{found.key}”"
    parts = [
        f"<h1>Evaluation of {escape(found.collection)}</h1>",
        f'<p class="dim">{escape(found.model)}, {figures["items"]:,} items, {figures["queries"]:,} queries with a '
        f"match and {figures['strangers']:,} without; right is {escape(relevant)}; a match scores at least "
        f"{escape(least)}; {escape(made)}</p>",
        _cards(found),
        "<p>" + _picture(plots(found), "Recall, densities of scores, and what each threshold would do") + "</p>",
    ]
    if found.rows:
        parts += ["<h2>Compared</h2>", _comparison(found)]
    if figures["labels"]:
        parts += ["<h2>Labels, the worst first</h2>", _labels(figures["labels"])]
    if found.worst:
        parts += [
            "<h2>Worst queries</h2>",
            "<p>" + _photographs(worst_sheet(found), "Each of the worst queries with what came first") + "</p>",
        ]
    if found.complaints:
        rows = [(escape(each.what), escape(each.reason)) for each in found.complaints[:MAX_ROWS]]
        parts += ["<h2>Left out, and what to know</h2>", _table(("what", "why"), rows, text=(1,))]
    parts += ["<h2>What the figures mean</h2>", MEANING]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>Evaluation of {escape(found.collection)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


MEANING = """
<p>Ranges are 95 % intervals: exact ones of shares (Clopper and Pearson), a bootstrap over the queries for means.
<b>R@k</b>: the share of queries with a right item among the first k. <b>P@10</b>: the share of right ones among the
first ten. <b>mAP</b>: average precision over the whole ranking, mean over queries. <b>No-match precision</b>: of the
queries answered with “no similar images”, those that have no match; <b>recall</b>: of those without a match, the ones
answered so; <b>kept</b>: of the others, the ones answered with a match. <b>Parted</b>: the chance that a query with a
match scores more than one without. <b>False accepts by label</b>: of each label, the share of foreign queries that
score as a match with one of its items; the spread is their standard deviation. <b>OPIS</b>: how differently one
threshold works for the labels, 0 for all alike (Zhang et al., ICLR 2024). Scores and rankings are exact cosines.
<b>As answered</b> is what the service itself says to some of the queries, by whatever index and learnt similarity it
has; <b>index recall</b>: how many of the exact ten nearest came.</p>
""".strip()


def percent(share: Mapping[str, Any] | None) -> str:
    """ "81.2 %", or a dash for nothing measured."""
    return "–" if share is None else f"{share['value'] * 100:.1f} %"


def number(mean: Mapping[str, Any] | None) -> str:
    """ ".812", or a dash for nothing measured."""
    return "–" if mean is None else f"{mean['value']:.3f}"


def _cards(found: Evaluation) -> str:
    figures, no_match = found.figures, found.figures["no_match"]
    cards: list[tuple[str, str, str]] = []
    if figures["queries"]:
        cards += [(f"R@{k}", percent(figures[f"recall_at_{k}"]), _range(figures[f"recall_at_{k}"])) for k in AT]
        for name, key in (("P@10", "precision_at_10"), ("mAP", "mean_average_precision")):
            mean = figures[key]
            cards.append((name, number(mean), f"{mean['low']:.3f} to {mean['high']:.3f}"))
        cards.append(("kept", percent(no_match["kept"]), _range(no_match["kept"])))
    if figures["strangers"]:
        for name, key in (("no-match precision", "precision"), ("no-match recall", "recall")):
            cards.append((name, percent(no_match[key]), _range(no_match[key])))
    if no_match["kept_at_rate"] is not None:
        cards.append(("parted", f"{no_match['parted']:.4f}", "genuine above stranger"))
        name = f"kept at {no_match['rate'] * 100:.2g} %"
        cards.append((name, percent(no_match["kept_at_rate"]), "of strangers accepted"))
    if (by_label := figures["false_accepts_by_label"]) is not None:
        worst = by_label["worst"]
        cards.append(
            (
                "false accepts by label",
                f"{by_label['spread'] * 100:.2f} %",
                f"spread; most: {worst['label']} {percent(worst)}",
            )
        )
    if figures["opis"] is not None:
        cards.append(("OPIS", f"{figures['opis']:.4f}", "0: one threshold suits all labels"))
    answered = found.answered
    if (first := answered.recall_at[1]) is not None:
        cards.append(("R@1 as answered", percent(asdict(first)), f"{answered.queries} queries asked of the service"))
    if answered.index_recall is not None:
        cards.append(("index recall", f"{answered.index_recall * 100:.1f} %", "of the exact ten nearest"))
    if answered.latency is not None:
        total = answered.latency["total"]
        stages = ", ".join(f"{name} {each['p50']:.1f}" for name, each in answered.latency.items() if name != "total")
        cards.append(("a search", f"{total['p50']:.0f} ms", f"p95 {total['p95']:.0f}; {stages}"))
    shown = [f"<div><small>{escape(a)}</small><b>{escape(b)}</b><small>{escape(c)}</small></div>" for a, b, c in cards]
    return f'<div class="cards">{"".join(shown)}</div>'


def _range(share: Mapping[str, Any] | None) -> str:
    if share is None:
        return "not measured"
    return f"{share['low'] * 100:.1f} to {share['high'] * 100:.1f} % of {share['count']:,}"


COMPARED = (
    "",
    "R@1",
    "R@5",
    "R@10",
    "P@10",
    "mAP",
    "threshold",
    "kept",
    "no-match recall",
    "parted",
    "kept at rate",
    "img/s",
)


def compared(row: Row) -> list[str]:
    """One row of the comparison in the columns COMPARED, as text."""
    figures, no_match = row.figures, row.figures["no_match"]
    return [
        row.name,
        *(percent(figures[f"recall_at_{k}"]) for k in AT),
        number(figures["precision_at_10"]),
        number(figures["mean_average_precision"]),
        f"{figures['threshold']:.3f}",
        percent(no_match["kept"]),
        percent(no_match["recall"]),
        "–" if no_match["parted"] is None else f"{no_match['parted']:.4f}",
        percent(no_match["kept_at_rate"]),
        "" if row.images_per_second is None else f"{row.images_per_second:g}",
    ]


def _comparison(found: Evaluation) -> str:
    maps = [row.figures["mean_average_precision"] for row in found.rows]
    best = max((each["value"] for each in maps if each is not None), default=None)
    rows = []
    for row, mean in zip(found.rows, maps, strict=True):
        cells = [escape(cell) for cell in compared(row)]
        if mean is not None and mean["value"] == best:
            cells = [f'<span class="best">{cell}</span>' for cell in cells]
        rows.append(tuple(cells))
    items, queries = found.compared
    note = f'<p class="dim">{items:,} items and {queries:,} queries that all of them have; the highest mAP in bold</p>'
    return note + _table(COMPARED, rows)


def _labels(labels: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            escape(each["label"]),
            f"{each['queries']:,}",
            f"{each['items']:,}",
            percent(each["recall_at_1"]),
            f"{each['mean_average_precision']:.3f}",
            f'<i style="width:{each["mean_average_precision"] * 110:.0f}px"></i>',
            f"{each['kept'] * 100:.0f} %",
            escape(each["confused"] or ""),
        )
        for each in labels[:MAX_ROWS]
    ]
    head = ("label", "queries", "items", "R@1", "mAP", "", "kept", "taken for")
    more = f"<p>{len(labels) - MAX_ROWS:,} more labels</p>" if len(labels) > MAX_ROWS else ""
    few = f'<p class="dim">Of fewer than {LEAST_OF_LABEL} queries a label\'s figures say little.</p>'
    return few + _table(head, rows, text=(7,), bar=5) + more


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], *, text: Sequence[int] = (), bar: int = -1) -> str:
    """cells: HTML. text: columns that are read; bar: the one that holds bars."""

    def kind(column: int) -> str:
        return ' class="text"' if column in text else ' class="bar"' if column == bar else ""

    titles = "".join(f"<th{kind(n)}>{escape(each)}</th>" for n, each in enumerate(head))
    lines = ("".join(f"<td{kind(n)}>{cell}</td>" for n, cell in enumerate(row)) for row in rows)
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def _picture(png: bytes, words: str) -> str:
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _photographs(png: bytes, words: str) -> str:
    """The same for a sheet of photographs, which as PNG would take six times the room."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(png)) as picture:
        picture.save(out, "JPEG", quality=85)
    return f'<img alt="{escape(words)}" src="data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}">'
