"""The report as one HTML page that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

_STYLE = (
    "body{font:15px system-ui;margin:2em auto;max-width:70em}table{border-collapse:collapse;margin:1em 0}"
    "td,th{padding:.2em .8em;border-bottom:1px solid #ccc;text-align:right}"
    "td:first-child,th:first-child{text-align:left}"
    ".missed{color:#a00}"
)
_HEAD = ("what", "requests", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "errors")


def page(report: Mapping[str, Any]) -> str:
    parts = [f"<p>{escape(line)}</p>" for line in facts(report)]
    parts += [f'<p class="missed">Missed: {escape(line)}</p>' for line in report["missed"]]
    parts.append("<h2>Saturation</h2>")
    ramps = [
        [name, _number(ramp["saturation_per_second"]), _number(ramp["within_250_ms_per_second"])]
        for name, ramp in report["ramps"].items()
    ]
    parts.append(_table(("scenario", "most requests/s carried", "most with p99 ≤ 250 ms"), ramps))
    for name, found in report["scenarios"].items():
        rate = f"{found['answered_per_second']:.1f} of {found['offered_per_second']:.1f} requests/s answered"
        parts.append(f"<h2>{escape(name)}</h2><p>{rate}</p>")
        rows = [_row("all", found), *(_row(f"{r['route']} {r['picture']}", r) for r in found["routes"])]
        rows += [
            [f"stage {stage}", "", *(_number(each) for each in ms.values()), ""]
            for stage, ms in found["stages_ms"].items()
        ]
        parts.append(_table(_HEAD, rows))
    body = "\n".join(parts)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Load test</title>'
        f"<style>{_STYLE}</style><h1>Load test</h1>\n{body}</html>\n"
    )


def facts(report: Mapping[str, Any]) -> list[str]:
    """What was loaded, with what, in sentences."""
    model = report["service"]["model"]
    lines = [f"Lookalike {report['service']['version']} at {report['url']}, {model['name']} {model['precision']}."]
    if model["name"] == "histogram":
        lines.append("The model is no network but a histogram of colours: everything but the network was load-tested.")
    lines.append(
        "Photographs in mixed sizes." if report["photographs"] else "Made pictures in mixed sizes, no photographs."
    )
    share = report["client_cpu_share"]
    lines.append(
        "CPU of the service is not known here." if share is None else f"Client: {share:.1%} of the service's CPU."
    )
    return lines


def _row(name: str, found: Mapping[str, Any]) -> list[str]:
    errors = ", ".join(f"{count} × {kind}" for kind, count in found["errors"].items())
    return [name, str(found["count"]), *(_number(each) for each in found["ms"].values()), errors]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _table(head: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = ["".join(f"<th>{escape(cell)}</th>" for cell in head)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in cells) for cells in rows]
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
