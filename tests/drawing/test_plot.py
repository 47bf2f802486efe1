"""Plots: what is drawn lies where its numbers say, in every shape that measurements take."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from service.drawing.plot import Bars, Line, Mark, Panel, density, plot, ticks
from tests.harness.soak import examples

RED = "#ff0000"


def reds(png: bytes) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Rows and columns of what is purely red, and the picture's size."""
    with Image.open(io.BytesIO(png)) as picture:
        pixels, size = np.asarray(picture.convert("RGB")), picture.size
    rows, columns = np.nonzero((pixels == [255, 0, 0]).all(axis=2))
    return rows, columns, size


def test_a_line_rises_from_left_to_right_and_stays_inside_its_panel() -> None:
    rows, columns, (width, _) = reds(plot([Panel("one", lines=[Line([0, 1], [0, 1], RED)]), Panel("two")]))
    assert columns.max() < width / 2
    assert rows[columns.argmin()] > rows[columns.argmax()], "up is a larger value"
    half = np.abs(columns - (columns.min() + columns.max()) / 2) <= 1
    assert abs(rows[half].mean() - (rows.min() + rows.max()) / 2) < 12


def test_what_lies_outside_the_span_is_moved_to_its_edge() -> None:
    inside = reds(plot([Panel("", lines=[Line([0, 1], [0.5, 0.5], RED)], x=(0, 1), y=(0, 1))]))
    outside = reds(plot([Panel("", lines=[Line([-9, 9], [0.5, 0.5], RED)], x=(0, 1), y=(0, 1))]))
    assert (inside[1].min(), inside[1].max()) == (outside[1].min(), outside[1].max())


def test_a_bar_is_as_high_as_its_value() -> None:
    rows, columns, _ = reds(plot([Panel("", bars=Bars(["a", "b"], [0.5, 1.0], RED, [0.4, 0.9], [0.6, 1.0]), y=(0, 1))]))
    middle = (columns.min() + columns.max()) / 2
    heights = [np.ptp(rows[columns < middle]), np.ptp(rows[columns > middle])]
    assert heights[1] == pytest.approx(2 * heights[0], abs=3)


def test_steps_hold_their_value() -> None:
    rows, columns, _ = reds(plot([Panel("", lines=[Line([0, 1, 2], [0.3, 0.8, 0.8], RED, steps=True)], y=(0, 1))]))
    third = columns < columns.min() + np.ptp(columns) * 0.3
    assert np.ptp(rows[third]) <= 4


@given(
    st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), max_size=12),
    st.lists(st.floats(-1e6, 1e6), max_size=3),
    st.booleans(),
)
@settings(max_examples=examples(15))
def test_any_numbers_are_drawn(points: list[tuple[float, float]], marks: list[float], dashed: bool) -> None:
    line = Line([x for x, _ in points], [y for _, y in points], RED, "name", area=not dashed, dashed=dashed)
    shown = [Mark(x, "here") for x in marks] + [Mark(x, "there", y=x) for x in marks]
    assert plot([Panel("title", "x", "y", [line], shown)], title="T", note="n").startswith(b"\x89PNG")


@given(st.floats(-1e9, 1e9), st.floats(1e-3, 1e9), st.integers(3, 10))
def test_ticks_are_round_and_few(low: float, width: float, most: int) -> None:
    high = low + width
    found = ticks(low, high, most)
    assert len(found) <= most
    assert all(low - width * 1e-6 - 1e-6 <= each <= high + width * 1e-6 + 1e-6 for each in found)


def test_a_density_is_where_the_scores_are() -> None:
    xs = np.linspace(0, 1, 501)
    scores = np.random.default_rng(3).normal(0.4, 0.05, 2_000)
    found = density(scores, xs)
    assert abs(xs[found.argmax()] - 0.4) < 0.03
    assert found.sum() * (xs[1] - xs[0]) == pytest.approx(1, abs=0.02)
    assert abs(xs[density(np.array([0.5] * 20), xs).argmax()] - 0.5) < 0.01, "equal scores are a peak"
    assert not density(np.array([]), xs).any()
