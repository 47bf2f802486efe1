"""Decoding in processes of its own: the same result as in place, and a worker's death harms only its own picture."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.errors import ImageTooLarge, UndecodableImage, UnsupportedImage
from models.pictures import image
from models.preprocessing import Preprocessing
from service.embedding.decoder import MOST_KILLED, DecoderPool
from service.embedding.decoder_process import Worker
from service.errors import DeadlinePassed, NotReady, Overloaded
from tests.harness.wild.case import encode
from tests.harness.wild.jpegs import markers, place

PLAIN = Preprocessing()


def jpeg(seed: int = 1, size: tuple[int, int] = (400, 300)) -> bytes:
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
    out = io.BytesIO()
    small.resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", quality=85)
    return out.getvalue()


def many_scans(count: int, size: tuple[int, int]) -> bytes:
    """A grey progressive JPEG whose last scan comes again and again."""
    whole = encode(Image.new("L", size, 90), "JPEG", progressive=True)
    scan = whole[place(whole, 0xDA, -1) : place(whole, 0xD9)]
    return whole[:-2] + scan * (count - len([marker for marker, _ in markers(whole) if marker == 0xDA])) + whole[-2:]


def with_pool(body: Callable[[DecoderPool], Awaitable[Any]], **options: Any) -> Any:
    async def main() -> Any:
        pool = DecoderPool(**{"workers": 2, "max_bytes": 8 * 2**20, "max_pixels": 64_000_000, **options})
        await pool.start()
        try:
            return await asyncio.wait_for(body(pool), 60)
        finally:
            await pool.close()

    return asyncio.run(main())


def test_pixels_and_thumbnail_are_those_of_decoding_in_place() -> None:
    async def body(pool: DecoderPool) -> None:
        pictures = [jpeg(seed) for seed in range(8)]
        crop = (0.1, 0.2, 0.9, 1.0)
        found = await asyncio.gather(
            *(pool.decode(each, crop=crop, thumbnail=True, preprocessing=PLAIN) for each in pictures)
        )
        for data, decoded in zip(pictures, found, strict=True):
            expected = image.decode(data, crop=crop, thumbnail=True)
            np.testing.assert_array_equal(decoded.pixels, expected.pixels)
            assert decoded.thumbnail == expected.thumbnail
            assert (decoded.width, decoded.height, decoded.format) == (400, 300, "jpeg")

    with_pool(body)


@pytest.mark.parametrize(
    ("data", "error"),
    [(b"hello", UnsupportedImage), (b"", UnsupportedImage), (jpeg()[:2000], UndecodableImage)],
)
def test_bad_pictures_raise_what_the_decoder_says_and_the_worker_lives(data: bytes, error: type[Exception]) -> None:
    async def body(pool: DecoderPool) -> None:
        with pytest.raises(error):
            await pool.decode(data, preprocessing=PLAIN)
        await pool.decode(jpeg(), preprocessing=PLAIN)
        assert pool.restarts == 0

    with_pool(body)


def test_limits_are_handed_to_the_workers() -> None:
    async def body(pool: DecoderPool) -> None:
        with pytest.raises(ImageTooLarge):
            await pool.decode(jpeg(size=(401, 300)), preprocessing=PLAIN)
        await pool.decode(jpeg(size=(400, 300)), preprocessing=PLAIN)

    with_pool(body, max_pixels=120_000)


def test_a_worker_that_died_of_something_else_costs_no_picture() -> None:
    async def body(pool: DecoderPool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGKILL)
        assert (await pool.decode(jpeg(), preprocessing=PLAIN)).format == "jpeg"
        assert pool.restarts == 1 and pool.pids != [pid]

    with_pool(body, workers=1)


class Fragile(DecoderPool):
    """A pool whose next workers end by a signal as soon as they are ready."""

    deaths = 0
    by = signal.SIGKILL

    async def _fresh(self) -> Worker:
        worker = await super()._fresh()
        if self.deaths:
            self.deaths -= 1
            os.kill(worker.pid, self.by)
        return worker


def with_fragile_pool(deaths: int, by: signal.Signals, body: Callable[[Fragile], Awaitable[Any]]) -> None:
    """deaths: of workers one after the other; the first is one that has been idle."""

    async def main() -> None:
        pool = Fragile(workers=1, max_bytes=2**20, max_pixels=64_000_000)
        await pool.start()
        try:
            pool.deaths, pool.by = deaths - 1, by
            os.kill(pool.pids[0], by)
            await asyncio.wait_for(body(pool), 60)
            assert (await pool.decode(jpeg(), preprocessing=Preprocessing())).format == "jpeg"
            assert pool.restarts == deaths
        finally:
            await pool.close()

    asyncio.run(main())


@pytest.mark.parametrize("by", [signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS])
def test_a_picture_that_crashes_two_workers_is_to_blame_and_the_next_one_is_fine(by: signal.Signals) -> None:
    async def body(pool: Fragile) -> None:
        with pytest.raises(UndecodableImage, match="crashes"):
            await pool.decode(jpeg(), preprocessing=Preprocessing())

    with_fragile_pool(2, by, body)


@pytest.mark.parametrize("deaths", [2, 3, MOST_KILLED - 1])
def test_workers_killed_by_somebody_else_cost_a_sound_picture_nothing(deaths: int) -> None:
    async def body(pool: Fragile) -> None:
        assert (await pool.decode(jpeg(), preprocessing=Preprocessing())).format == "jpeg"

    with_fragile_pool(deaths, signal.SIGKILL, body)


def test_where_workers_are_killed_all_the_time_the_picture_is_not_to_blame() -> None:
    async def body(pool: Fragile) -> None:
        with pytest.raises(NotReady, match="being killed"):
            await pool.decode(jpeg(), preprocessing=Preprocessing())

    with_fragile_pool(MOST_KILLED, signal.SIGKILL, body)


def test_a_picture_has_so_much_processor_time() -> None:
    """400 scans over 16 megapixels, in 200 kB."""

    async def body(pool: DecoderPool) -> None:
        with pytest.raises(ImageTooLarge, match="more than 1 seconds of processor time"):
            await pool.decode(many_scans(400, (4000, 4000)), preprocessing=Preprocessing())
        assert (await pool.decode(jpeg(), preprocessing=Preprocessing())).format == "jpeg"
        assert pool.restarts == 1

    with_pool(body, workers=1, cpu_seconds=1, max_pixels=10**9)


EXPENSIVE = {
    "progressive JPEG": lambda: many_scans(20, (4000, 4000)),
    "PNG": lambda: encode(Image.new("RGB", (3000, 3000)), "PNG"),
    "WebP": lambda: encode(Image.new("RGB", (3200, 3200)), "WEBP", lossless=True, quality=0, method=0),
}


@pytest.mark.parametrize("kind", EXPENSIVE)
def test_a_cheap_picture_passes_expensive_ones(kind: str) -> None:
    """However many expensive pictures came first, one worker is kept for the others."""
    data = EXPENSIVE[kind]()

    async def body(pool: DecoderPool) -> None:
        before = [asyncio.create_task(pool.decode(data, preprocessing=Preprocessing())) for _ in range(4)]
        await asyncio.sleep(0)
        await pool.decode(jpeg(), preprocessing=Preprocessing())
        assert sum(task.done() for task in before) <= 1
        await asyncio.gather(*before)

    with_pool(body, workers=2)


def test_an_expensive_picture_whose_caller_goes_leaves_its_place() -> None:
    async def body(pool: DecoderPool) -> None:
        data = EXPENSIVE["PNG"]()
        gone = [asyncio.create_task(pool.decode(data, preprocessing=Preprocessing())) for _ in range(3)]
        await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        with pytest.raises(DeadlinePassed):
            await pool.decode(data, preprocessing=Preprocessing(), deadline=time.monotonic())
        for _ in range(3):
            await pool.decode(data, preprocessing=Preprocessing())

    with_pool(body, workers=2)


def test_closing_tells_those_who_wait_for_a_worker() -> None:
    async def body(pool: DecoderPool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        waiting = [asyncio.create_task(pool.decode(jpeg(), preprocessing=PLAIN)) for _ in range(4)]
        await asyncio.sleep(0.05)
        await pool.close()
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(each, NotReady | asyncio.CancelledError) for each in results), results
        assert sum(isinstance(each, NotReady) for each in results) == 3

    with_pool(body, workers=1)


def test_a_folder_of_the_same_name_is_not_run_instead_of_ours(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise SystemExit('not ours')")
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        with_pool(lambda pool: pool.decode(jpeg(), preprocessing=PLAIN), workers=1)
    finally:
        os.chdir(before)


def test_a_terminated_group_leaves_its_decoders_to_the_server() -> None:
    async def body(pool: DecoderPool) -> None:
        for pid in pool.pids:
            os.kill(pid, signal.SIGTERM)
            os.kill(pid, signal.SIGINT)
        assert (await pool.decode(jpeg(), preprocessing=PLAIN)).format == "jpeg"
        assert pool.restarts == 0

    with_pool(body, workers=1)


def test_a_worker_that_hangs_is_killed_after_its_time() -> None:
    async def body(pool: DecoderPool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        with pytest.raises(UndecodableImage, match="too long"):
            await pool.decode(jpeg(), preprocessing=PLAIN)
        assert (await pool.decode(jpeg(), preprocessing=PLAIN)).format == "jpeg"
        assert pool.restarts == 1

    with_pool(body, workers=1, seconds=0.5)


def test_a_caller_that_goes_away_leaves_the_worker_usable() -> None:
    async def body(pool: DecoderPool) -> None:
        big = jpeg(size=(6000, 4000))
        for _ in range(3):
            task = asyncio.create_task(pool.decode(big, preprocessing=PLAIN))
            await asyncio.sleep(0.005)
            task.cancel()
        np.testing.assert_array_equal(
            (await pool.decode(jpeg(9), preprocessing=PLAIN)).pixels, image.decode(jpeg(9)).pixels
        )
        assert pool.restarts == 0

    with_pool(body, workers=1)


def test_a_picture_whose_deadline_passes_while_all_workers_are_busy_waits_no_longer() -> None:
    async def body(pool: DecoderPool) -> None:
        (pid,) = pool.pids
        os.kill(pid, signal.SIGSTOP)
        busy = asyncio.create_task(pool.decode(jpeg(), preprocessing=PLAIN))
        await asyncio.sleep(0.05)
        with pytest.raises(DeadlinePassed):
            await pool.decode(jpeg(), preprocessing=PLAIN, deadline=time.monotonic() + 0.1)
        assert not busy.done() and pool.restarts == 0
        os.kill(pid, signal.SIGCONT)
        assert (await busy).format == "jpeg"
        assert (await pool.decode(jpeg(), preprocessing=PLAIN, deadline=time.monotonic() + 60)).format == "jpeg"

    with_pool(body, workers=1)


def test_a_picture_past_its_deadline_is_not_decoded() -> None:
    async def body(pool: DecoderPool) -> None:
        with pytest.raises(Overloaded):
            await pool.decode(jpeg(), deadline=time.monotonic() - 1, preprocessing=PLAIN)
        await pool.decode(jpeg(), preprocessing=PLAIN)

    with_pool(body, workers=1)


def open_files(pid: int) -> set[str]:
    return {str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()}


def test_workers_hold_neither_our_files_nor_our_sockets(tmp_path: Path) -> None:
    async def body(pool: DecoderPool) -> None:
        for pid in pool.pids:
            held = open_files(pid)
            assert not any(str(tmp_path) in each for each in held)

    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)
        with_pool(body)


def test_a_closed_pool_says_so() -> None:
    async def body(pool: DecoderPool) -> None:
        await pool.close()
        with pytest.raises(NotReady):
            await pool.decode(jpeg(), preprocessing=PLAIN)

    with_pool(body)
