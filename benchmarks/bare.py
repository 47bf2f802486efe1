"""What the service is held against: the same decoder and session in a bare loop, and what is commonly done instead."""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from models.artefact import Artefact
from models.pictures.image import decode
from models.runtimes.onnxruntime import OnnxEmbedder

Pixels = npt.NDArray[np.uint8]


def rate(work: Callable[[bytes], object], pictures: Iterable[bytes], *, threads: int, seconds: float) -> float:
    """Pictures per second through `work` on so many threads, each taking the next as soon as it is free."""
    source = iter(pictures)
    started = time.perf_counter()

    def loop(_number: int) -> int:
        done = 0
        while time.perf_counter() - started < seconds:
            picture = next(source, None)
            if picture is None:
                break
            work(picture)
            done += 1
        return done

    with ThreadPoolExecutor(threads) as pool:
        done = sum(pool.map(loop, range(threads)))
    return done / (time.perf_counter() - started)


def median_ms(work: Callable[[bytes], object], pictures: Sequence[bytes]) -> float:
    """Milliseconds of one call, one at a time; median."""
    took = []
    for picture in pictures:
        started = time.perf_counter()
        work(picture)
        took.append(time.perf_counter() - started)
    return float(np.median(took)) * 1e3


def straight(embedder: OnnxEmbedder, *, thumbnail: bool = False) -> Callable[[bytes], object]:
    """Decode and session, nothing else."""
    return lambda data: embedder.embed(decode(data, thumbnail=thumbnail).pixels[None])


def plain_session(artefact: Artefact) -> Any:
    """onnxruntime's defaults: every core on one picture, spinning."""
    import onnxruntime

    return onnxruntime.InferenceSession(str(artefact.path), providers=["CPUExecutionProvider"])


def run(session: Any, pixels: Pixels) -> object:
    return session.run(None, {session.get_inputs()[0].name: pixels})


def naive_decode(data: bytes) -> Pixels:
    """The whole picture at full size, then resized: uint8 (224, 224, 3)."""
    with Image.open(io.BytesIO(data)) as image:
        whole = image.convert("RGB")
    scale = 256 / min(whole.size)
    small = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.BICUBIC)
    left, top = (small.width - 224) // 2, (small.height - 224) // 2
    return np.asarray(small.crop((left, top, left + 224, top + 224)))


def naive(session: Any) -> Callable[[bytes], object]:
    """Full decode and a session as it comes."""
    return lambda data: run(session, naive_decode(data)[None])


def large_photograph(pictures: Sequence[bytes], width: int = 4000, height: int = 3000) -> bytes:
    """A 12-megapixel JPEG pieced together from real photographs at their own sharpness."""
    sheet = Image.new("RGB", (width, height))
    x = y = tallest = number = 0
    while y < height:
        with Image.open(io.BytesIO(pictures[number % len(pictures)])) as tile:
            sheet.paste(tile.convert("RGB"), (x, y))
            x, tallest, number = x + tile.width, max(tallest, tile.height), number + 1
        if x >= width:
            x, y, tallest = 0, y + tallest, 0
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
