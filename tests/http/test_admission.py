"""Admission: no more inside than there are places, and when to come back; bodies share a bounded memory."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.errors import Overloaded
from service.http.admission import Admission
from service.http.connection.pace import LEAST_SPEED, WINDOW, Pace


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_the_place_after_the_last_is_refused_and_freed_places_are_given_again() -> None:
    admission = Admission(2)
    with admission.place():
        with admission.place():
            with pytest.raises(Overloaded) as refused, admission.place():
                raise AssertionError("a third place was given")
            assert refused.value.retry_after >= 1
        with admission.place():
            assert admission.inside == 2
    assert (admission.inside, admission.refused) == (0, 1)


def test_a_request_that_fails_frees_its_place() -> None:
    admission = Admission(1)
    with pytest.raises(ValueError), admission.place():
        raise ValueError
    assert admission.inside == 0


def test_retry_after_follows_the_pace_at_which_requests_leave(clock: Clock) -> None:
    admission = Admission(40, clock=clock)
    held = [admission.place() for _ in range(40)]
    for each in held:
        each.__enter__()
    for each in held[:30]:
        clock.now += 2.0
        each.__exit__(None, None, None)
    assert 5 <= admission.retry_after <= 30


def test_a_body_that_came_whole_keeps_its_room_and_the_next_one_waits_for_it(loop: asyncio.Runner) -> None:
    admission = Admission(8, body_limit=1000)

    async def both() -> None:
        with admission.body() as two:
            with admission.body() as one:
                await one.add(bytes(600))
                one.receiving = False
                waiting = asyncio.create_task(two.add(bytes(600)))
                await asyncio.sleep(0.05)
                assert not waiting.done() and not one.lost
            await asyncio.wait_for(waiting, 5)
            assert two.taken == admission.body_bytes == 600
        assert admission.body_bytes == 0

    loop.run(both())


def test_without_room_for_long_a_body_is_refused(loop: asyncio.Runner, clock: Clock) -> None:
    admission = Admission(8, body_limit=1000, clock=clock)

    async def both() -> None:
        with admission.body() as one, admission.body() as two:
            await one.add(bytes(600))
            one.receiving = False
            waiting = asyncio.create_task(two.add(bytes(600)))
            await asyncio.sleep(0.05)
            clock.now += 60
            with pytest.raises(Overloaded):
                await asyncio.wait_for(waiting, 5)
        assert (admission.body_bytes, admission.refused) == (0, 1)

    loop.run(both())


def test_the_slowest_body_loses_its_room_first(loop: asyncio.Runner, clock: Clock) -> None:
    """Stalled ones give way one by one, as many as are needed; who keeps the least speed keeps the room."""
    admission = Admission(8, body_limit=1_000_000, clock=clock)

    async def all_of_them(held: ExitStack) -> list[bool]:
        stalled, dripping, steady, new = (held.enter_context(admission.body()) for _ in range(4))
        for room in (stalled, dripping, steady):
            await room.add(bytes(300_000))
            room.pace.add(300_000, clock.now)
        clock.now += 2
        dripping.pace.add(100, clock.now)
        steady.pace.add(int(LEAST_SPEED) + 1, clock.now)
        await new.add(bytes(300_000))
        first = [stalled.lost, dripping.lost, steady.lost]
        await new.add(bytes(300_000))
        assert not stalled.pieces, "its memory is still held"
        return [*first, stalled.lost, dripping.lost, steady.lost]

    with ExitStack() as held:
        assert loop.run(all_of_them(held)) == [True, False, False, True, True, False]
    assert admission.body_bytes == 0


@pytest.mark.parametrize(
    ("speed", "alone", "cut"),
    [(20_000, False, False), (17_000, False, False), (12_000, False, True), (12_000, True, False), (1_500, True, False),
     (200, True, True), (0, True, True), (0, False, True)],
)  # fmt: skip
def test_a_body_is_cut_by_its_pace_and_not_by_its_age(speed: int, alone: bool, cut: bool) -> None:
    """Bytes per second, for two minutes; alone: nobody else needs its room."""
    pace = Pace(0.0)
    seen = False
    for tick in range(1, 240):
        now = tick / 2
        pace.add(speed // 2, now)
        seen = seen or pace.too_slow(now, alone=alone, patience=30)
        assert not (seen and now < WINDOW), "judged before there was time to judge"
    assert seen is cut
