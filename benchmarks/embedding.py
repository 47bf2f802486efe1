"""What a picture costs, apart from service and store: the network, decoding, the thumbnail.

    python -m benchmarks.embedding [--quick]

Every ratio stems from rounds that take turns within one run. How good int8 answers is in `benchmarks.retrieval`.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
from PIL import Image

from benchmarks import report
from models import artefact
from models.build.build import build
from models.embedder import INPUT, OUTPUT
from models.pictures.image import decode
from models.runtimes.onnxruntime import OnnxEmbedder
from service.settings import load_settings
from tests.harness import photographs

Pixels = npt.NDArray[np.uint8]
Way = Callable[[bytes], Any]

CORES = len(os.sched_getaffinity(0))
# Short side of a 4:3 photograph of 12 megapixels, and of one of 2.
TWELVE, TWO = 3000, 1224


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a fifth of the rounds and photographs")
    quick = parser.parse_args().quick
    settings, _ = load_settings()
    fp32 = build(settings.models)
    int8 = OnnxEmbedder(build(settings.models, precision="int8"), threads=1)
    wide = OnnxEmbedder(artefact.find(settings.models, precision="int8"), threads=CORES)
    # The peer: a session as onnxruntime makes it when nothing is set.
    session = onnxruntime.InferenceSession(str(fp32.path), providers=["CPUExecutionProvider"])

    def plain(pixels: Pixels) -> npt.NDArray[np.float32]:
        found: npt.NDArray[np.float32] = session.run([OUTPUT], {INPUT: pixels})[0]
        return found

    photos = photographs.split("clothing", "queries") + photographs.split("groceries", "queries")
    random.Random(1).shuffle(photos)
    figures = network(plain, int8, wide, [photo.read() for photo in photos[:64]], rounds=3 if quick else 15)
    figures |= decoding(plain, wide, photos[0].read(), rounds=3 if quick else 9)
    figures |= shrinking(plain, [photo.read() for photo in photos[: 6 if quick else 40]])
    figures |= thumbnails(int8, [photo.read() for photo in photos[:64]], rounds=2 if quick else 6)
    report.json_line("embedding", figures)
    tell(figures)


def network(
    plain: Callable[[Pixels], Any], int8: OnnxEmbedder, wide: OnnxEmbedder, data: Sequence[bytes], *, rounds: int
) -> dict[str, float]:
    """Images per second of each way of running the network, medians of rounds that take turns."""
    pictures = [decode(each).pixels[None] for each in data]

    def side_by_side() -> None:
        with ThreadPoolExecutor(CORES) as pool:
            list(pool.map(int8.embed, pictures))

    def one_by_one(embed: Callable[[Pixels], Any]) -> Callable[[], None]:
        return lambda: [embed(each) for each in pictures].clear()

    ways: dict[str, Callable[[], Any]] = {
        "fp32 default session": one_by_one(plain),
        "int8 side by side": side_by_side,
        "int8 all cores": one_by_one(wide.embed),
    }
    seconds = take_turns(ways, rounds)
    rates = {f"{name}, images per second": len(pictures) / value for name, value in seconds.items()}
    return rates | {"int8 side by side ÷ fp32": seconds["fp32 default session"] / seconds["int8 side by side"]}


def decoding(plain: Callable[[Pixels], Any], wide: OnnxEmbedder, photo: bytes, *, rounds: int) -> dict[str, float]:
    """Milliseconds from bytes to pixels, and from a 12-megapixel upload to its vector."""
    figures: dict[str, float] = {}
    for label, short in (("12 MP", TWELVE), ("2 MP", TWO), ("500 px", 375)):
        for kind in ("JPEG", "WEBP", "PNG") if short != TWELVE else ("JPEG",):
            data = enlarged(photo, short, kind)
            seconds = take_turns({"naive": lambda d=data: naive(d), "ours": lambda d=data: decode(d)}, rounds)  # type: ignore[misc]
            for name, value in seconds.items():
                figures[f"{label} {kind} decode {name}, ms"] = 1000 * value
    data = enlarged(photo, TWELVE, "JPEG")
    both = {
        "naive": lambda: plain(naive(data)[None]),
        "ours": lambda: wide.embed(decode(data).pixels[None]),
    }
    seconds = take_turns(both, rounds)
    figures |= {f"12 MP JPEG to vector {name}, ms": 1000 * value for name, value in seconds.items()}
    figures["12 MP JPEG to vector, naive ÷ ours"] = seconds["naive"] / seconds["ours"]
    return figures


def shrinking(plain: Callable[[Pixels], Any], data: Sequence[bytes]) -> dict[str, float]:
    """Cosine between our decode and the naive full one, for photographs enlarged to 12 megapixels with sensor noise."""
    cosines = []
    for each in data:
        large = enlarged(each, TWELVE, "JPEG")
        pair = np.concatenate([plain(naive(large)[None]), plain(decode(large).pixels[None])])
        cosines.append(float(pair[0] @ pair[1]))
    return {
        "12 MP cosine to full decode, median": float(np.median(cosines)),
        "12 MP cosine to full decode, min": min(cosines),
    }


def thumbnails(int8: OnnxEmbedder, data: Sequence[bytes], *, rounds: int) -> dict[str, float]:
    """Processor time per picture, and the thumbnail's share of decode + network + thumbnail."""
    prepared = [decode(each) for each in data]
    ways: dict[str, Callable[[], Any]] = {
        "decode": lambda: [decode(each) for each in data],
        "decode and thumbnail": lambda: [decode(each, thumbnail=True) for each in data],
        "network": lambda: [int8.embed(decoded.pixels[None]) for decoded in prepared],
    }
    seconds = take_turns(ways, rounds, clock=time.process_time)
    per = {name: 1000 * value / len(data) for name, value in seconds.items()}
    cost = per["decode and thumbnail"] - per["decode"]
    figures = {f"catalogue picture {name}, CPU ms": value for name, value in per.items()}
    return figures | {
        "thumbnail, CPU ms": cost,
        "thumbnail, share of import": cost / (per["decode and thumbnail"] + per["network"]),
    }


def naive(data: bytes) -> Pixels:
    """Full decode, the whole picture to short side 256, centre 224: what services do that do not think about it."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    scale = 256 / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - 224) // 2, (image.height - 224) // 2
    return np.asarray(image.crop((left, top, left + 224, top + 224)))


def enlarged(photo: bytes, short: int, kind: str) -> bytes:
    """A photograph brought to this short side (4:3), with the noise of a sensor where it grew."""
    image = Image.open(io.BytesIO(photo)).convert("RGB").resize((short * 4 // 3, short), Image.Resampling.LANCZOS)
    values = np.asarray(image).astype(np.float32)
    if short > 1000:
        values += np.random.default_rng(0).standard_normal(values.shape, np.float32) * 4
    target = io.BytesIO()
    Image.fromarray(values.clip(0, 255).astype(np.uint8)).save(target, kind, quality=92)
    return target.getvalue()


def take_turns(
    ways: dict[str, Callable[[], Any]], rounds: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, float]:
    """Median seconds of each way; all run once per round, after one round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            started = clock()
            way()
            if number:
                taken[name].append(clock() - started)
    return {name: float(np.median(values)) for name, values in taken.items()}


def tell(figures: dict[str, float]) -> None:
    rows: Iterator[list[Any]] = ([name, value] for name, value in figures.items())
    title, columns, told = "One picture: network, decoding, thumbnail", ("what", "figure"), list(rows)
    note = (
        "Naive: full decode, whole picture resized, fp32 in a default session. Photographs of 12 and 2 megapixels are "
        "enlarged from small ones, with noise, at JPEG quality 92."
    )
    report.print_table(title, columns, told)
    report.record("embedding", title=title, columns=columns, rows=told, note=note)


if __name__ == "__main__":
    main()
