"""The batcher: what goes next, who is dropped, and that nothing a picture does hurts its neighbours."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from models.errors import EmbeddingInvalid
from models.runtimes.histogram import HistogramEmbedder
from service.embedding.batcher import COMPANY, GIVE_WAY, Batcher, Line, Waiting
from service.errors import NotReady, Overloaded

Pixels = npt.NDArray[np.uint8]
Vectors = npt.NDArray[np.float32]


class Scripted:
    """A real embedder with levers: pictures whose first byte is 13 fail, 66 end the thread; a gate holds runs."""

    def __init__(self) -> None:
        self._inner = HistogramEmbedder()
        self.fingerprint = self._inner.fingerprint
        self.dim = self._inner.dim
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self._begun = threading.Event()

    async def begun(self) -> None:
        """Returns when a run is under way."""
        await asyncio.to_thread(self._begun.wait, 10)

    def embed(self, pixels: Pixels) -> Vectors:
        self.sizes.append(len(pixels))
        self._begun.set()
        self.gate.wait(10)
        first = pixels[:, 0, 0, 0]
        if (first == 66).any():
            raise SystemExit("out of luck")
        if (first == 13).any():
            raise EmbeddingInvalid("thirteen")
        return self._inner.embed(pixels)


@dataclass
class Net:
    narrow: Any = field(default_factory=Scripted)
    wide: Any = field(default_factory=Scripted)
    fingerprint: str = "scripted"


def picture(first: int = 0) -> Pixels:
    pixels = np.random.default_rng(first).integers(0, 256, (224, 224, 3), np.uint8)
    pixels[0, 0, 0] = first
    return pixels


def run(coroutine: Any) -> Any:
    return asyncio.run(asyncio.wait_for(coroutine, 60))


def test_vectors_come_back_to_those_who_asked() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=2), Net()
        try:
            pictures = [picture(number) for number in range(14, 34)]
            found = await asyncio.gather(*(batcher.submit(net, each) for each in pictures))
            expected = HistogramEmbedder().embed(np.stack(pictures))
            np.testing.assert_allclose(np.stack(found), expected, atol=1e-6)
        finally:
            batcher.close()

    run(main())


def test_a_bad_picture_in_a_batch_fails_alone() -> None:
    async def main() -> None:
        net = Net()
        batcher = Batcher(lanes=1, max_batch=8)
        try:
            net.narrow.gate.clear()
            net.wide.gate.clear()
            first = batcher.submit(net, picture(1))
            await net.wide.begun()
            rest = [batcher.submit(net, picture(first)) for first in (2, 13, 3)]
            net.narrow.gate.set()
            net.wide.gate.set()
            results = await asyncio.gather(first, *rest, return_exceptions=True)
            assert [isinstance(each, EmbeddingInvalid) for each in results] == [False, False, True, False]
            assert max(net.narrow.sizes) == 3, "the three that waited went as one batch"
        finally:
            batcher.close()

    run(main())


def test_a_lane_that_dies_is_replaced_and_counted() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=1), Net()
        try:
            with pytest.raises(RuntimeError, match="lane died"):
                await batcher.submit(net, picture(66))
            assert (await batcher.submit(net, picture(5))).shape == (net.wide.dim,)
            assert batcher.restarts == 1
        finally:
            batcher.close()

    run(main())


def test_pictures_whose_caller_has_gone_are_never_embedded() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=1), Net()
        try:
            net.wide.gate.clear()
            running = batcher.submit(net, picture(1))
            await net.wide.begun()
            gone = [batcher.submit(net, picture(number)) for number in (2, 3, 4)]
            for future in gone:
                future.cancel()
            last = batcher.submit(net, picture(5))
            net.wide.gate.set()
            await running
            await last
            assert len(net.wide.sizes) + len(net.narrow.sizes) == 2
            assert batcher.dropped == 3
        finally:
            batcher.close()

    run(main())


def test_a_picture_past_its_deadline_is_told_overloaded() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=1), Net()
        try:
            with pytest.raises(Overloaded):
                await batcher.submit(net, picture(1), deadline=time.monotonic() - 1)
            assert not net.wide.sizes and not net.narrow.sizes
        finally:
            batcher.close()

    run(main())


def test_one_picture_alone_gets_all_cores_and_many_share_them() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=2), Net()
        try:
            net.wide.gate.clear()
            alone = batcher.submit(net, picture(1))
            await net.wide.begun()
            # While it runs nobody else is alone, however the lanes take turns.
            await asyncio.gather(*(batcher.submit(net, picture(number)) for number in range(20, 30)))
            assert (net.wide.sizes, net.narrow.sizes) == ([1], [1] * 10)
            net.wide.gate.set()
            await alone
        finally:
            batcher.close()

    run(main())


def test_shutdown_finishes_what_runs_and_tells_what_waits() -> None:
    async def main() -> None:
        batcher, net = Batcher(lanes=1), Net()
        net.wide.gate.clear()
        running = batcher.submit(net, picture(1))
        await net.wide.begun()
        waiting = [batcher.submit(net, picture(number)) for number in (2, 3)]
        closing = asyncio.create_task(asyncio.to_thread(batcher.close))
        await asyncio.sleep(0.05)
        net.wide.gate.set()
        await closing
        assert (await running).shape == (net.wide.dim,)
        for future in waiting:
            with pytest.raises(NotReady):
                await future
        with pytest.raises(NotReady):
            batcher.submit(net, picture(4))

    run(main())


def test_what_waits_goes_as_one_batch_of_at_most_the_largest() -> None:
    async def main() -> None:
        net = Net()
        batcher = Batcher(lanes=1, max_batch=4)
        try:
            net.wide.gate.clear()
            first = batcher.submit(net, picture(1))
            await net.wide.begun()
            rest = [batcher.submit(net, picture(number)) for number in range(20, 26)]
            net.wide.gate.set()
            found = await asyncio.gather(first, *rest)
            assert net.narrow.sizes == [4, 2]
            np.testing.assert_allclose(
                np.stack(found[1:]),
                HistogramEmbedder().embed(np.stack([picture(number) for number in range(20, 26)])),
                atol=1e-6,
            )
        finally:
            batcher.close()

    run(main())


def test_a_lane_does_what_comes_after_before_the_caller_has_the_vector() -> None:
    """In the lane's own thread, with the very vector; and not where a batch would wait for it."""

    async def main() -> None:
        net = Net()
        batcher = Batcher(lanes=1, max_batch=4)
        seen: list[tuple[str, Vectors]] = []

        def after(vector: Vectors) -> None:
            seen.append((threading.current_thread().name, vector))

        try:
            net.wide.gate.clear()
            first = batcher.submit(net, picture(1), after=after)
            await net.wide.begun()
            rest = [batcher.submit(net, picture(number), after=after) for number in (20, 21)]
            net.wide.gate.set()
            vector = await first
            await asyncio.gather(*rest)
            assert net.narrow.sizes == [2] and [name for name, _ in seen] == ["embed-0"]
            np.testing.assert_array_equal(seen[0][1], vector)
            with pytest.raises(EmbeddingInvalid):
                await batcher.submit(net, picture(13), after=after)
            assert len(seen) == 1
        finally:
            batcher.close()

    run(main())


def waiting(loop: asyncio.AbstractEventLoop, net: Net, deadline: float = float("inf")) -> Waiting:
    return Waiting(net, picture(), loop.create_future(), loop, deadline)


def test_people_go_before_bulk_work_and_models_are_not_mixed() -> None:
    loop = asyncio.new_event_loop()
    one, two = Net(fingerprint="one"), Net(fingerprint="two")
    line = Line()
    bulk, live, other = waiting(loop, one), waiting(loop, one), waiting(loop, two)
    line.push(bulk, bulk=True)
    line.push(live, bulk=False)
    line.push(other, bulk=False)
    assert line.take(8, 0.0) == ([live, bulk], []), "the other model's picture waits for its own batch"
    assert line.take(8, 0.0) == ([other], [])
    loop.close()


def test_bulk_work_lets_people_pass_and_has_its_turn_now_and_then() -> None:
    """While somebody is on the way it waits, whoever is queued; after GIVE_WAY seconds one run of it goes first."""
    loop = asyncio.new_event_loop()
    net = Net()
    line = Line()
    assert line.take(1, 50.0) == ([], [])
    bulk = [waiting(loop, net) for _ in range(3)]
    live = [waiting(loop, net) for _ in range(4)]
    for each in bulk:
        line.push(each, bulk=True)
    assert line.take(1, 100.0, held=True) == ([], [])
    for each in live:
        line.push(each, bulk=False)
    assert line.take(1, 100.1, held=True) == ([live[0]], [])
    assert line.take(1, 100.0 + GIVE_WAY, held=True) == ([bulk[0]], [])
    assert line.take(1, 100.2 + GIVE_WAY, held=True) == ([live[1]], [])
    assert line.take(4, 100.3 + GIVE_WAY, held=True) == ([live[2], live[3]], [])
    assert line.take(4, 100.3 + GIVE_WAY, held=True) == ([], [])
    assert line.take(1, 100.4 + GIVE_WAY) == ([bulk[1]], [])
    assert line.take(1, 100.3 + 2 * GIVE_WAY, held=True) == ([], []), "it had its turn while nobody was there"
    assert line.take(1, 100.4 + 2 * GIVE_WAY, held=True) == ([bulk[2]], [])
    loop.close()


def test_while_a_person_is_on_the_way_no_lane_begins_bulk_work() -> None:
    """Before the person's own picture is queued, too; it begins as soon as nobody is there."""

    async def main() -> None:
        batcher, net = Batcher(lanes=2), Net()
        try:
            with batcher.person():
                bulk = batcher.submit(net, picture(1), bulk=True)
                await asyncio.sleep(GIVE_WAY / 5)
                assert not bulk.done() and batcher.runs == 0
                await batcher.submit(net, picture(2))
                assert not bulk.done() and len(net.wide.sizes) == 1, "what waits does not take the person's cores"
            await bulk
        finally:
            batcher.close()

    run(main())


def test_after_a_person_one_lane_stays_free_for_the_next() -> None:
    """Bulk work has the others, and all of them again when nobody has come for COMPANY seconds."""

    async def main() -> None:
        now = [0.0]
        batcher, net = Batcher(lanes=2, clock=lambda: now[0]), Net()
        try:
            with batcher.person():
                pass
            net.narrow.gate.clear()
            net.wide.gate.clear()
            bulk = [batcher.submit(net, picture(number), bulk=True) for number in range(1, 4)]
            await asyncio.to_thread(time.sleep, 0.3)
            assert len(net.narrow.sizes) + len(net.wide.sizes) == 1
            now[0] = COMPANY
            await asyncio.to_thread(time.sleep, 2 * GIVE_WAY)
            assert len(net.narrow.sizes) + len(net.wide.sizes) == 2
            net.narrow.gate.set()
            net.wide.gate.set()
            await asyncio.gather(*bulk)
        finally:
            batcher.close()

    run(main())


def test_expired_entries_are_handed_out_apart() -> None:
    loop = asyncio.new_event_loop()
    net = Net()
    line = Line()
    late, fresh = waiting(loop, net, deadline=1.0), waiting(loop, net, deadline=3.0)
    line.push(late, bulk=False)
    line.push(fresh, bulk=False)
    assert line.take(8, 2.0) == ([fresh], [late])
    assert len(line) == 0
    loop.close()
