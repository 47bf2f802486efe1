"""Admission: no more inside than there are places, and an honest word on when to come back."""

from __future__ import annotations

import pytest

from service.errors import Overloaded
from service.http.admission import Admission


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


def test_retry_after_follows_the_pace_at_which_requests_leave() -> None:
    now = 0.0
    admission = Admission(40, clock=lambda: now)
    held = [admission.place() for _ in range(40)]
    for each in held:
        each.__enter__()
    for each in held[:30]:
        now += 2.0
        each.__exit__(None, None, None)
    assert 5 <= admission.retry_after <= 30
