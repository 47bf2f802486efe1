"""What the service adds to bare decoding and inference: import, one query, many queries, large pictures.

    python -m benchmarks.service [--precision int8] [--full]

Each figure of the service alternates with the bare loop it is held against, in one run; ratios are medians over rounds.
Every request carries other bytes, so that no cache answers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks import bare, report
from benchmarks.wire import Connection, closed_loop, distinct, search_request
from models import artefact
from models.artefact import Artefact
from models.pictures.image import decode
from models.runtimes.onnxruntime import OnnxEmbedder
from models.runtimes.processor import resolve_precision
from service.settings import load_settings
from tests.harness import photographs
from tests.harness.process import ServerProcess

CORES = len(os.sched_getaffinity(0))
COLLECTION = "default"
PLAIN = "plain fp32 session, all cores"
RAW = "decode + session + dot products"
COLUMNS = ("what", "unit", "service", "held against", "bare", "ratio", "target")

Work = Callable[[bytes], object]


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of the service beside the bare one; the larger `ratio`, the better the service."""

    what: str
    unit: str
    service: float
    against: str
    bare: float
    ratio: float
    target: str = ""

    def cells(self) -> list[object]:
        return [self.what, self.unit, self.service, self.against, self.bare, self.ratio, self.target]


@dataclass(frozen=True, slots=True)
class Scene:
    """What all measurements share. many: one-thread session for concurrent runs; one: all cores on one picture."""

    built: Artefact
    model_dir: Path
    directory: Path
    pictures: list[bytes]
    seconds: float
    rounds: int

    def fresh(self) -> Iterator[bytes]:
        """The photographs over and over, never the same bytes twice in a process."""
        start = time.monotonic_ns() % 10**12
        return (distinct(self.pictures[n % len(self.pictures)], start + n) for n in itertools.count())

    def server(self, name: str) -> ServerProcess:
        env = {"LOOKALIKE_PRECISION": self.built.precision, "LOOKALIKE_LOG_LEVEL": "warning"}
        return ServerProcess(self.directory / name, self.model_dir, env)


def measure_session(scene: Scene, fp32: Artefact) -> list[Row]:
    """Ready pixels through one-thread runs on all cores, against onnxruntime's default fp32 session."""
    pixels = decode(scene.pictures[0]).pixels[None]
    embedder = OnnxEmbedder(scene.built, threads=1)
    plain = bare.plain_session(fp32)
    ours, theirs = [], []
    for _ in range(scene.rounds):
        theirs.append(
            bare.rate(lambda _: bare.run(plain, pixels), itertools.repeat(b""), threads=1, seconds=scene.seconds)
        )
        ours.append(
            bare.rate(lambda _: embedder.embed(pixels), itertools.repeat(b""), threads=CORES, seconds=scene.seconds)
        )
    return [
        rate_row("session alone, a one-thread run per core", ours, PLAIN, theirs, "≥ 3.0" if built_int8(scene) else "")
    ]


def built_int8(scene: Scene) -> bool:
    return scene.built.precision == "int8"


def measure_import(scene: Scene) -> list[Row]:
    """`lookalike import` of a folder into an empty catalogue against decode, session and thumbnail on all cores."""
    embedder = OnnxEmbedder(scene.built, threads=1)
    folder = scene.directory / "folder"
    folder.mkdir()
    for number, picture in enumerate(scene.pictures):
        (folder / f"{number:05}.jpg").write_bytes(picture)
    work = bare.straight(embedder, thumbnail=True)
    told, walls, bares = [], [], []
    for number in range(scene.rounds):
        bares.append(bare.rate(work, scene.pictures, threads=CORES, seconds=600))
        started = time.perf_counter()
        done = scene.server(f"import-{number}").cli("import", str(folder), "--json", timeout=600)
        walls.append(len(scene.pictures) / (time.perf_counter() - started))
        if done.returncode != 0:
            raise SystemExit(f"import failed: {done.stderr.strip()[-500:]}")
        told.append(float(json.loads(done.stdout)["images_per_second"]))
    shutil.move(scene.directory / f"import-{scene.rounds - 1}", scene.directory / "catalogue")
    against = "decode + session + thumbnail"
    return [
        rate_row("import FOLDER", told, against, bares, "≥ 0.95"),
        rate_row("the same, start of the command included", walls, against, bares),
    ]


def measure_many(scene: Scene, server: ServerProcess, fp32: Artefact) -> tuple[list[Row], float]:
    """Searches over HTTP, eight at a time, against bare loops on all cores; and the client's share of a core."""
    work = bare.straight(OnnxEmbedder(scene.built, threads=1))
    plain = bare.plain_session(fp32)
    pixels = decode(scene.pictures[0]).pixels[None]
    served, bares, plains, shares = [], [], [], []
    for _ in range(scene.rounds):
        plains.append(
            bare.rate(lambda _: bare.run(plain, pixels), itertools.repeat(b""), threads=1, seconds=scene.seconds)
        )
        bares.append(bare.rate(work, scene.fresh(), threads=CORES, seconds=scene.seconds))
        fresh = itertools.islice(scene.fresh(), int(scene.seconds * 250))
        requests = [search_request(COLLECTION, each) for each in fresh]
        load = closed_loop(server.port, requests, connections=8, seconds=scene.seconds)
        expect_answers(load.statuses)
        served.append(load.rate)
        shares.append(load.client_cpu)
    what = "search, 8 at a time"
    rows = [
        rate_row(what, served, "decode + session", bares, "≥ 0.92"),
        rate_row(what, served, PLAIN, plains, "> 2.85" if built_int8(scene) else ""),
    ]
    return rows, median(shares)


def measure_one(scene: Scene, server: ServerProcess) -> list[Row]:
    """One search at a time, all cores on the one picture, against decode + session + dot products, and the bare run."""
    embedder = OnnxEmbedder(scene.built, threads=CORES)
    catalogue = embedder.embed(np.stack([decode(picture).pixels for picture in scene.pictures[:64]]))
    catalogue = np.resize(catalogue, (len(scene.pictures), catalogue.shape[1]))
    pixels = decode(scene.pictures[0]).pixels[None]
    connection = Connection(server.port)

    def search(picture: bytes) -> None:
        expect_answers([connection.ask(search_request(COLLECTION, picture))[0]])

    def straight(picture: bytes) -> None:
        # einsum, not a product: OpenBLAS's threads would spin into the next run of the session.
        np.argpartition(np.einsum("ij,j->i", catalogue, embedder.embed(decode(picture).pixels[None])[0]), -10)

    return alternate(
        scene,
        ("search, one at a time", search),
        {RAW: (straight, "≤ 3 ms more"), "session.run alone": (lambda _: embedder.embed(pixels), "")},
    )


def measure_large(scene: Scene, server: ServerProcess, fp32: Artefact) -> list[Row]:
    """A 12-megapixel JPEG to its answer against full decode with a plain fp32 session."""
    photograph = bare.large_photograph(scene.pictures)
    numbers = itertools.count(time.monotonic_ns() % 10**12)
    connection = Connection(server.port)

    def search(_: bytes) -> None:
        request = search_request(COLLECTION, distinct(photograph, next(numbers)))
        expect_answers([connection.ask(request)[0]])

    naive = bare.naive(bare.plain_session(fp32))
    return alternate(
        scene,
        ("search with a 12 MP JPEG", search),
        {"full decode + plain fp32 session": (lambda _: naive(photograph), "≥ 3.7" if built_int8(scene) else "")},
    )


def alternate(scene: Scene, service: tuple[str, Work], others: dict[str, tuple[Work, str]]) -> list[Row]:
    """Milliseconds of one call, the service and the others in turns. others: by name the work and its target."""
    what, ask = service
    count = max(8, int(scene.seconds * 4))
    served: list[float] = []
    bares: dict[str, list[float]] = {name: [] for name in others}
    for _ in range(scene.rounds):
        for name, (work, _target) in others.items():
            bares[name].append(bare.median_ms(work, list(itertools.islice(scene.fresh(), count))))
        served.append(bare.median_ms(ask, list(itertools.islice(scene.fresh(), count))))
    return [
        Row(what, "ms", median(served), name, median(took), ratio(took, served), others[name][1])
        for name, took in bares.items()
    ]


def rate_row(what: str, ours: Sequence[float], against: str, theirs: Sequence[float], target: str = "") -> Row:
    return Row(what, "images/s", median(ours), against, median(theirs), ratio(ours, theirs), target)


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Median of the rounds' ratios."""
    return median(a / b for a, b in zip(over, under, strict=True))


def expect_answers(statuses: Any) -> None:
    if set(statuses) != {200}:
        raise SystemExit(f"the server answered {dict.fromkeys(statuses)} where 200 was expected")


def measure_idle(server: ServerProcess, seconds: float) -> float:
    """Share of one core that the server and its workers use while nobody asks."""
    time.sleep(2)
    before = server.cpu_seconds()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", help="fp32 or int8; default: what the service would choose")
    parser.add_argument("--full", action="store_true", help="longer rounds, more pictures")
    arguments = parser.parse_args()
    settings, _ = load_settings()
    precision = resolve_precision(arguments.precision or settings.precision, "cpu")
    built = artefact.find(settings.models, model=settings.model, precision=precision)
    fp32 = artefact.find(settings.models, model=settings.model, precision="fp32")
    photos = photographs.split("groceries", "catalogue") + photographs.split("unrelated", "images")
    random.Random(7).shuffle(photos)
    count, seconds, rounds = (1000, 15.0, 5) if arguments.full else (400, 5.0, 3)
    with tempfile.TemporaryDirectory(prefix="lookalike-bench-") as temporary:
        pictures = [photo.read() for photo in photos[:count]]
        scene = Scene(built, settings.models, Path(temporary), pictures, seconds, rounds)
        rows = measure_session(scene, fp32) + measure_import(scene)
        with scene.server("catalogue").start() as server:
            many, client = measure_many(scene, server, fp32)
            rows += many + measure_one(scene, server) + measure_large(scene, server, fp32)
            idle = measure_idle(server, 20.0 if arguments.full else 8.0)
    title = f"Service over bare decoding and inference, {precision}"
    added = next(row.service - row.bare for row in rows if row.against == RAW)
    note = (
        f"{count} photographs of 350 to 500 pixels. Ratio: service ÷ bare for rates, bare ÷ service for milliseconds. "
        f"One search at a time adds {added:.1f} ms to decode, session and dot products. "
        f"The load client itself used {client:.1%} of a core; the idle server {idle:.2%} of one."
    )
    report.print_table(title, COLUMNS, [row.cells() for row in rows])
    print(note)
    figures = {
        f"{row.what} / {row.against}": {"service": row.service, "bare": row.bare, "ratio": row.ratio} for row in rows
    }
    report.json_line("service", {"precision": precision, "client_cpu": client, "idle_cpu": idle, **figures})
    name = "service" if not arguments.full else "service-full"
    report.record(f"{name}-{precision}", title=title, columns=COLUMNS, rows=[row.cells() for row in rows], note=note)


if __name__ == "__main__":
    main()
