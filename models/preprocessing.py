"""Preprocessing: the geometry and the numbers that turn an upright picture into what one network takes.

It is part of every artefact's manifest and, as far as it decides a vector, of its fingerprint. `pictures` carries it
out; the part about numbers (`mean`, `deviation`) is the runtime's, and only where the graph does not hold it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

Rule = Literal["crop", "squash", "pad"]
Filter = Literal["bilinear", "bicubic", "lanczos"]
RULES: tuple[Rule, ...] = ("crop", "squash", "pad")
FILTERS: tuple[Filter, ...] = ("bilinear", "bicubic", "lanczos")

# The way from bytes to pixels as `pictures` carries it out; a change there that moves vectors gets another version.
VERSION = "pixels-1"
# Pixels of this many a side (3 MiB) and a thumbnail always fit a decoding process's smallest mapping.
LARGEST_SIDE = 1024
# RGB of what `pad` adds: the middle of the range, which is near zero once a network's mean is subtracted.
PAD_COLOUR = (127, 127, 127)

Channels = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """How a picture becomes side × side pixels.

    The picture is resized into a frame of short_side × short_side, of whose middle side × side pixels are kept.
    side: pixels, 1…LARGEST_SIDE. short_side: pixels, at least `side`.
    rule: "crop" fills the frame with the picture's short side and loses what sticks out; "squash" gives both sides the
    frame's length; "pad" fits the long side and fills up with PAD_COLOUR.
    filter: resampling. mean, deviation: per channel of RGB in 0…255, subtracted and divided by before the network; None
    where its graph takes the bytes themselves. version: of the decoding. Raises ValueError.
    """

    side: int = 224
    short_side: int = 256
    rule: Rule = "crop"
    filter: Filter = "bicubic"
    mean: Channels | None = None
    deviation: Channels | None = None
    version: str = VERSION

    def __post_init__(self) -> None:
        if not 1 <= self.side <= LARGEST_SIDE:
            raise ValueError(f"side is {self.side}, expected 1 to {LARGEST_SIDE}")
        if not self.side <= self.short_side <= 4 * LARGEST_SIDE:
            raise ValueError(f"short_side is {self.short_side}, expected {self.side} to {4 * LARGEST_SIDE}")
        if self.rule not in RULES:
            raise ValueError(f"rule is {self.rule!r}, expected one of {', '.join(RULES)}")
        if self.filter not in FILTERS:
            raise ValueError(f"filter is {self.filter!r}, expected one of {', '.join(FILTERS)}")
        if (self.mean is None) != (self.deviation is None):
            raise ValueError("mean and deviation come together or not at all")
        if self.mean is not None and not all(math.isfinite(each) for each in self.mean):
            raise ValueError(f"mean is {self.mean}, expected three finite numbers")
        if self.deviation is not None and not all(math.isfinite(each) and each > 0 for each in self.deviation):
            raise ValueError(f"deviation is {self.deviation}, expected three positive numbers")

    @property
    def identity(self) -> str:
        """What represents it in a fingerprint: its version, and whatever differs from the version's defaults."""
        plain = Preprocessing(version=self.version)
        other = {name: value for name, value in asdict(self).items() if value != getattr(plain, name)}
        return f"{self.version} {json.dumps(other, sort_keys=True)}" if other else self.version

    def as_json(self) -> dict[str, Any]:
        """For a manifest or a message between processes; the inverse of `parse`."""
        return asdict(self)

    @classmethod
    def parse(cls, value: Mapping[str, Any]) -> Preprocessing:
        """From `as_json`. Raises ValueError, TypeError and KeyError on anything else."""
        return cls(
            side=_whole(value["side"]),
            short_side=_whole(value["short_side"]),
            rule=value["rule"],
            filter=value["filter"],
            mean=_channels(value["mean"]),
            deviation=_channels(value["deviation"]),
            version=str(value["version"]),
        )


def _whole(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    return value


def _channels(value: Any) -> Channels | None:
    if value is None:
        return None
    red, green, blue = (float(each) for each in value)
    return red, green, blue
