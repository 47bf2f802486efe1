"""What decoding in killable processes costs over decoding in threads: the figures behind `service.embedding.decoder`.

Prints a table, then one JSON line. All rows stem from one run over the same pictures, taken in turns.
"""

from __future__ import annotations

import asyncio
import io
import os
import resource
import statistics
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from benchmarks import report
from models.pictures.image import Decoded, decode
from models.preprocessing import Preprocessing
from service.embedding.decoder import DecoderPool
from tests.harness import photographs

Decode = Callable[[bytes], Awaitable[Decoded]]

ROUNDS = 5
PICTURES = 60


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of this process and of those in `pids`."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    total = own.ru_utime + own.ru_stime
    for pid in pids:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            fields = stat.read().rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def timed(work: Decode, pictures: list[bytes], width: int, pids: list[int]) -> tuple[float, float]:
    """Median milliseconds from asking to pixels, and CPU milliseconds per picture, `width` at a time."""
    waiting = iter(pictures)
    waits: list[float] = []

    async def one() -> None:
        for data in waiting:
            started = time.perf_counter()
            await work(data)
            waits.append((time.perf_counter() - started) * 1000)

    before = cpu_seconds(pids)
    await asyncio.gather(*(one() for _ in range(width)))
    return statistics.median(waits), (cpu_seconds(pids) - before) * 1000 / len(pictures)


def enlarged(data: bytes) -> bytes:
    """The same photograph at 4000 × 3000, as a phone would send it."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(data)) as small:
        small.convert("RGB").resize((4000, 3000), Image.Resampling.BICUBIC).save(out, "JPEG", quality=90)
    return out.getvalue()


async def measure(pictures: dict[str, list[bytes]]) -> list[tuple[str, str, int, float, float]]:
    """Rows of picture kind, place, pictures at a time, median ms, CPU ms per picture; medians over the rounds."""
    cores = len(os.sched_getaffinity(0))
    pool = DecoderPool(workers=cores, max_bytes=20 * 2**20, max_pixels=64_000_000)
    await pool.start()
    threads = ThreadPoolExecutor(cores)
    loop = asyncio.get_running_loop()

    async def in_thread(data: bytes) -> Decoded:
        return await loop.run_in_executor(threads, decode, data)

    async def in_process(data: bytes) -> Decoded:
        return await pool.decode(data, preprocessing=Preprocessing())

    found: dict[tuple[str, str, int], list[tuple[float, float]]] = {}
    try:
        for _ in range(ROUNDS):
            for kind, set_ in pictures.items():
                for width in (1, 8):
                    for place, work in (("threads", in_thread), ("processes", in_process)):
                        figures = await timed(work, set_, width, pool.pids)
                        found.setdefault((kind, place, width), []).append(figures)
    finally:
        threads.shutdown()
        await pool.close()
    return [
        (*key, statistics.median(wait for wait, _ in rounds), statistics.median(cpu for _, cpu in rounds))
        for key, rounds in found.items()
    ]


def main() -> None:
    photos = photographs.split("clothing", "queries")[:PICTURES]
    small = [photo.path.read_bytes() for photo in photos]
    rows = asyncio.run(measure({"350–500 px": small, "12 MP": [enlarged(data) for data in small[:6]]}))
    columns = ["picture", "decoded in", "at a time", "median ms", "CPU ms per picture"]
    title = "Decoding in threads and in killable processes"
    report.print_table(title, columns, rows)
    report.record("decoders", title=title, columns=columns, rows=rows)
    report.json_line("decoders", {f"{kind}, {place}, {width} at a time": wait for kind, place, width, wait, _ in rows})


if __name__ == "__main__":
    main()
