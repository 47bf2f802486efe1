"""What decides about jobs: who may take one, which start, how fast they go, what is forgotten."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.jobs.state import (
    FINISHED,
    HISTORY,
    LEASE,
    Counts,
    Job,
    Speed,
    State,
    Trouble,
    as_record,
    claimable,
    claimed,
    due,
    ended,
    further,
    of_record,
    outdated,
    released,
)

STATES: list[State] = ["queued", "running", "done", "failed", "cancelled"]


def a_job(number: int, kind: str = "import", collection: str = "shop", state: State = "queued") -> Job:
    return Job(f"{number:024x}", kind, collection, {"n": number}, created_at=float(number), state=state)


def test_a_job_is_the_same_after_its_record() -> None:
    """Every field comes back; one that a later version has added is left out."""
    job = replace(
        a_job(1, state="failed"), counts=Counts(9, 3, 2, 1, 4), trouble=Trouble("storage-full", "no room"), note="n"
    )
    assert of_record(as_record(job)) == job
    assert of_record({**as_record(job), "later": 1, "counts": {"total": 2, "later": 1}}).counts == Counts(2)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_a_finished_job_is_nobodys(state: State, alone: bool) -> None:
    """Alone, whatever has not ended is taken up; beside others only what waits, or was left."""
    job = claimed(a_job(1), "other", 1000.0)
    job = replace(job, state=state)
    assert claimable(job, "me", 1001.0, alone=alone) == (state not in FINISHED and (alone or state == "queued"))


def test_beside_others_a_running_job_is_taken_over_only_when_its_runner_is_silent() -> None:
    """One's own from before a restart at once; one whose files lie elsewhere never."""
    job = claimed(a_job(1), "other", 1000.0)
    assert not claimable(job, "me", 1000.0 + LEASE, alone=False)
    assert claimable(job, "me", 1001.0 + LEASE, alone=False)
    assert claimable(job, "other", 1000.5, alone=False)
    at_home = replace(job, home="other")
    assert not claimable(at_home, "me", 9999.0, alone=False)
    assert not claimable(released(at_home, 1.0), "me", 9999.0, alone=False)


@given(
    st.lists(st.tuples(st.sampled_from(["import", "tune"]), st.sampled_from("abc")), max_size=12),
    st.integers(1, 4),
    st.integers(0, 12),
)
def test_jobs_start_in_their_order_and_never_too_many(wanted: list[tuple[str, str]], limit: int, first: int) -> None:
    """Starting whatever is due, and ending one at a time, runs every job, in order within a kind and collection."""
    waiting = [a_job(number, kind, collection) for number, (kind, collection) in enumerate(wanted)]
    running: list[Job] = []
    order: list[Job] = []
    while waiting or running:
        for job in due(reversed(waiting), running, limit):
            waiting.remove(job)
            running.append(job)
            order.append(job)
        assert running
        for kind in ("import", "tune"):
            assert sum(job.kind == kind for job in running) <= limit
        assert len({(job.kind, job.collection) for job in running}) == len(running)
        running.pop(first % len(running))
    assert sorted(job.id for job in order) == [f"{number:024x}" for number in range(len(wanted))]
    for pair in set(wanted):
        ids = [job.id for job in order if (job.kind, job.collection) == pair]
        assert ids == sorted(ids)


def test_an_end_says_when_and_how_fast() -> None:
    """Speed of the whole; none where it never ran."""
    job = replace(claimed(a_job(1), "me", 100.0), counts=Counts(50, 40, 5, 5))
    over = ended(job, "done", 120.0)
    assert (over.images_per_second, over.seconds_left, over.finished_at) == (2.0, 0.0, 120.0)
    assert ended(a_job(2), "cancelled", 5.0).images_per_second == 0.0
    assert claimed(released(job, 130.0), "me", 140.0).started_at == 100.0


def test_what_was_shown_is_not_taken_back() -> None:
    """A job that starts over after a restart shows what it had until it is there again."""
    assert further(Counts(10, 5, 1, 0), Counts(10, 2, 1, 0)) == Counts(10, 5, 1, 0)
    assert further(Counts(10, 5, 1, 0), Counts(10, 5, 1, 1)) == Counts(10, 5, 1, 1)


def test_only_finished_jobs_are_forgotten_the_oldest_first() -> None:
    """However many wait or run, none of them is."""
    jobs = [replace(a_job(number, state="done"), finished_at=float(number)) for number in range(HISTORY + 3)]
    open_ones = [a_job(number) for number in range(1000, 1200)]
    assert outdated([*reversed(jobs), *open_ones]) == jobs[:3]


@given(st.lists(st.tuples(st.floats(0.0, 50.0), st.integers(0, 5), st.integers(0, 5)), max_size=30))
def test_speed_is_never_negative_nor_infinite(steps: list[tuple[float, int, int]]) -> None:
    """Whatever the clock and the counts do, the figures are numbers that JSON has."""
    speed, now, done, unchanged = Speed(), 0.0, 0, 0
    for seconds, more, same in steps:
        now, done, unchanged = now + seconds, done + more, unchanged + same
        speed.add(Counts(200, done, unchanged), now)
        each, left = speed.figures()
        assert 0 <= each < float("inf") and (left is None or 0 <= left < float("inf"))


def test_speed_forgets_what_was_long_ago() -> None:
    """An hour of standing still does not halve the speed of now."""
    speed = Speed()
    speed.add(Counts(100, 0), 0.0)
    for second in range(40):
        speed.add(Counts(100, second), 3600.0 + second)
    assert speed.figures() == pytest.approx((1.0, 61.0), rel=0.1)
