"""Thresholds and shares: what they promise holds for any scores, and too few pictures are told."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from service.quality import conformal
from service.quality.shares import share
from service.search.calibrated import Calibrated

SCORES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300)
RATES = st.sampled_from([0.001, 0.01, 0.02, 0.05, 0.1, 0.25, 1 / 3, 0.5, 0.9])


@given(SCORES, RATES)
def test_at_most_the_rate_of_the_measured_strangers_reach_the_threshold(scores: list[float], rate: float) -> None:
    """Where there are enough of them; with fewer the rate is refused, and the smallest one that is told is possible."""
    strangers = np.array(scores, np.float32)
    if len(scores) < conformal.least_count(rate):
        with pytest.raises(ValueError):
            conformal.threshold(strangers, rate)
        rate = conformal.smallest_rate(len(scores))
    least = conformal.threshold(strangers, rate)
    reached = int((strangers >= least).sum())
    if strangers.max() < 1:
        assert reached <= rate * (len(scores) + 1) - 1 + 1e-6
    assert -1 <= least <= 1


@pytest.mark.parametrize(("rate", "least"), [(0.01, 99), (0.05, 19), (0.5, 1), (0.001, 999), (1 / 3, 2), (0.9, 1)])
def test_so_many_pictures_are_needed(rate: float, least: int) -> None:
    assert conformal.least_count(rate) == least
    scores = np.linspace(0, 0.5, least, dtype=np.float32)
    conformal.threshold(scores, rate)
    if least > 1:
        with pytest.raises(ValueError, match="allow no rate below"):
            conformal.threshold(scores[1:], rate)


def test_a_threshold_keeps_its_promise_on_pictures_to_come() -> None:
    """Averaged over calibrations, strangers never seen are accepted as often as asked: 2 % here, from 150 each."""
    rng = np.random.default_rng(3)
    accepted = []
    for _ in range(2_000):
        draw = rng.gamma(2, 0.1, 160).astype(np.float32).clip(-1, 1)
        accepted.append((draw[150:] >= conformal.threshold(draw[:150], 0.02)).mean())
    assert 0.015 < float(np.mean(accepted)) < 0.0225


def test_p_values_are_uniform_on_strangers() -> None:
    rng = np.random.default_rng(5)
    drawn = []
    for _ in range(3_000):
        scores = rng.normal(size=40)
        drawn.append(Calibrated(0.5, np.sort(scores[1:])).p_value(float(scores[0])))
    values = np.array(drawn, np.float64)
    for level in (0.05, 0.25, 0.5, 0.9):
        assert abs(float((values <= level).mean()) - level) < 0.03
    assert Calibrated(0.5, np.empty(0)).p_value(0.7) is None
    assert Calibrated(0.5, np.array([0.1, 0.2])).p_value(None) is None
    assert Calibrated(0.5, np.array([0.1, 0.2])).p_value(0.3) == pytest.approx(1 / 3)


@given(SCORES, st.sampled_from([0.01, 0.05, 0.2]))
def test_the_lower_quantile_loses_at_most_what_it_may(scores: list[float], lost: float) -> None:
    genuine = np.array(scores, np.float32)
    assert (genuine < conformal.lower(genuine, lost)).mean() <= lost


@given(st.integers(0, 60), st.integers(0, 60))
def test_a_share_has_the_exact_interval(first: int, second: int) -> None:
    hits, count = min(first, second), max(first, second)
    found = share(hits, count)
    assert 0 <= found.low <= found.value <= found.high <= 1
    if count:
        exact = binomtest(hits, count).proportion_ci(0.95, method="exact")
        assert found.low == pytest.approx(exact.low, abs=1e-9)
        assert found.high == pytest.approx(exact.high, abs=1e-9)
