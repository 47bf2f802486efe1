"""Every figure comes with the machine and the versions it was measured on, and ratios stem from one run."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parent / "RESULTS.md"
PACKAGES = ("onnxruntime", "onnxruntime-gpu", "faiss-cpu", "numpy", "pillow", "fastapi", "uvicorn", "apsw")
HEADER = """# Results

Written by `make bench` and `make bench-full`; each section is replaced when its benchmark runs again. Absolute figures
belong to the machine named under them; ratios were measured within one run on it.
"""


def machine() -> dict[str, Any]:
    """CPU model, cores this process may use, memory in GiB, whether int8 dot products (VNNI) are at hand."""
    cpuinfo = _read("/proc/cpuinfo")
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB$", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "cpu": model[1] if model else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "vnni": bool(re.search(r"\b(avx512_vnni|avx_vnni)\b", cpuinfo)),
        "system": f"{platform.system()} {platform.release()}",
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a figure; those not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Prints one table; the first column is left-aligned, figures right-aligned."""
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    Console(width=160 if not os.isatty(1) else None).print(table)


def json_line(name: str, figures: Mapping[str, Any]) -> None:
    """Prints one line of JSON: the benchmark's name, when, machine, versions, figures."""
    line = {"benchmark": name, "at": _now(), "machine": machine(), "versions": versions(), "figures": dict(figures)}
    print(json.dumps(line, default=float), flush=True)


def record(
    name: str,
    *,
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[object]],
    note: str = "",
    path: Path = RESULTS,
) -> None:
    """Writes or replaces the section `name` (lower-case word) of RESULTS.md: title, table, note, machine, versions."""
    where = machine()
    told = ", ".join(f"{key} {value}" for key, value in versions().items())
    body = [f"## {title}", "", "| " + " | ".join(columns) + " |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    body += ["| " + " | ".join(_cell(value).replace("|", "\\|") for value in row) + " |" for row in rows]
    if note:
        body += ["", note.strip()]
    body += [
        "",
        f"*{_now()[:10]}, {where['cores']} cores of {where['cpu']}, {where['memory_gib']} GiB; {told}*",
    ]
    section = f"<!-- begin {name} -->\n" + "\n".join(body) + f"\n<!-- end {name} -->"
    text = path.read_text() if path.exists() else HEADER
    pattern = re.compile(rf"<!-- begin {re.escape(name)} -->.*?<!-- end {re.escape(name)} -->", re.DOTALL)
    text = pattern.sub(lambda _: section, text) if pattern.search(text) else f"{text.rstrip()}\n\n{section}\n"
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.replace(path)


def _cell(value: object) -> str:
    """Numbers with at most three significant digits behind the point; everything else as it is."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _read(path: str) -> str:
    file = Path(path)
    return file.read_text(errors="replace") if file.exists() else ""
