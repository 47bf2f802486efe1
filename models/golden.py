"""A model proves itself on one picture that needs no file: drawn with integers, the same on every machine.

An artefact carries its golden embedding of that picture; a kernel that computes something else is found out by it.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt

from models.errors import ArtefactCorrupt

PICTURE = "picture-1"
MIN_COSINE = {"fp32": 0.9999, "fp16": 0.999, "bf16": 0.999, "int8": 0.999}


def golden_picture(side: int) -> npt.NDArray[np.uint8]:
    """uint8 (side, side, 3): soft noise in four octaves under some hard-edged shapes, in integer arithmetic only.

    Wide in range and frequency, so that most channels of a network respond to it.
    """
    row, column = np.mgrid[0:side, 0:side].astype(np.int64)
    picture = np.zeros((side, side, 3), np.int64)
    for channel in range(3):
        for octave, cell in enumerate((56, 28, 14, 7)):
            picture[..., channel] += _noise(row, column, cell, seed=97 * channel + 13 * octave) >> octave
    picture = picture * 135 >> 8
    disc = (row - 80) ** 2 + (column - 140) ** 2 < 48**2
    picture[disc] = picture[disc] // 3 + np.array([150, 40, 30])
    stripes = (row > 130) & (column < 100) & ((row + column) // 9 % 2 == 0)
    picture[stripes] = picture[stripes] // 4 + np.array([20, 60, 170])
    return np.clip(picture, 0, 255).astype(np.uint8)


def stored(path: Path, precision: str) -> npt.NDArray[np.float32]:
    """A backbone's golden embedding for its published weights: float32 (dim,). fp16 is measured against fp32's."""
    return unpack(json.loads(path.read_text())["int8" if precision == "int8" else "fp32"])


def pack(vector: npt.NDArray[np.float32]) -> str:
    """A vector as base64 of little-endian float16; the rounding moves a cosine by less than 1e-6."""
    return base64.b64encode(vector.astype("<f2").tobytes()).decode()


def unpack(text: str) -> npt.NDArray[np.float32]:
    """The inverse of `pack`. Raises ValueError."""
    return np.frombuffer(base64.b64decode(text, validate=True), "<f2").astype(np.float32)


def check(
    found: npt.NDArray[np.float32],
    golden: npt.NDArray[np.float32],
    precision: str,
    where: str,
    least: float | None = None,
) -> None:
    """Raises ArtefactCorrupt unless the two point the same way.

    least: the cosine needed; None: what the precision may lose.
    """
    least = MIN_COSINE[precision] if least is None else least
    if found.shape != golden.shape:
        raise ArtefactCorrupt(
            f"{where} gives {found.size} numbers, expected {golden.size}: run `lookalike model build`"
        )
    length = float(np.linalg.norm(found) * np.linalg.norm(golden))
    cosine = float(found @ golden) / length if length > 0 else 0.0
    if not cosine >= least:
        hint = (
            "; use LOOKALIKE_PRECISION=fp32"
            if precision != "fp32"
            else "; run `lookalike model build`, or report this processor"
        )
        raise ArtefactCorrupt(
            f"{where} computes something else on this machine (cosine {cosine:.4f} to its golden embedding, "
            f"{least} needed){hint}"
        )


def _noise(row: npt.NDArray[np.int64], column: npt.NDArray[np.int64], cell: int, seed: int) -> npt.NDArray[np.int64]:
    """Value noise 0…255: hashed lattice points, bilinear between them."""

    def lattice(y: npt.NDArray[np.int64], x: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        mixed = (x * 374761393 + y * 668265263 + seed * 1274126177) & 0xFFFFFFFF
        mixed = ((mixed ^ (mixed >> 13)) * 1103515245) & 0xFFFFFFFF
        return ((mixed ^ (mixed >> 16)) >> 8) & 255

    y, dy = row // cell, row % cell
    x, dx = column // cell, column % cell
    upper = lattice(y, x) * (cell - dx) + lattice(y, x + 1) * dx
    lower = lattice(y + 1, x) * (cell - dx) + lattice(y + 1, x + 1) * dx
    return np.asarray((upper * (cell - dy) + lower * dy) // (cell * cell), np.int64)
