"""Variants: other ways to search the same catalogue, as `--compare` names them.

A specification is one or several of model, precision, side, crop and threshold, joined by `+`, each with one or several
values: "side=224,288+crop=squash" is two variants.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, get_args

from models import golden
from models.artefact import Artefact
from models.graphs.resized import resized
from models.preprocessing import LARGEST_SIDE, Preprocessing, Rule
from models.registry import BACKBONES, PRECISIONS
from models.runtimes.onnxruntime import golden_embedding
from service.embedding import chosen
from service.embedding.chosen import Chosen
from service.settings import Settings

MAX_VARIANTS = 24
LEAST_SIDE = 64
CROPS: tuple[Rule, ...] = get_args(Rule)


class VariantRefused(Exception):
    """A specification names no way to search. One line: what is wrong with it, and what there is."""


@dataclass(frozen=True, slots=True)
class Variant:
    """None: as the collection has it. crop: how a picture becomes a square; side: of that square, in pixels."""

    model: str | None = None
    precision: str | None = None
    side: int | None = None
    crop: Rule | None = None
    threshold: float | None = None

    @property
    def name(self) -> str:
        """As it is asked for."""
        given = {key: getattr(self, key) for key in KEYS}
        return " + ".join(f"{key} {value}" for key, value in given.items() if value is not None)

    @property
    def embeds(self) -> bool:
        """Whether its vectors are others than the collection's."""
        return replace(self, threshold=None) != Variant()


KEYS = ("model", "precision", "side", "crop", "threshold")


def parse(specifications: Sequence[str]) -> list[Variant]:
    """Every variant once, in the order they are named. Raises VariantRefused."""
    found: dict[Variant, None] = {}
    for text in specifications:
        values: dict[str, list[Any]] = {}
        for part in text.split("+"):
            key, equals, given = part.strip().partition("=")
            key = key.strip().lower()
            if not equals or key not in KEYS:
                raise VariantRefused(f"{text[:60]!r}: say {', '.join(KEYS)} = a value, joined by +")
            if key in values:
                raise VariantRefused(f"{text[:60]!r} has {key} twice: give its values as {key}=a,b")
            values[key] = [_value(key, each.strip()) for each in given.split(",")]
        for each in itertools.product(*values.values()):
            found[Variant(**dict(zip(values, each, strict=True)))] = None
    if len(found) > MAX_VARIANTS:
        raise VariantRefused(f"{len(found)} variants, at most {MAX_VARIANTS} at a time")
    return list(found)


def _value(key: str, text: str) -> Any:
    try:
        match key:
            case "side":
                side = int(text)
                if LEAST_SIDE <= side <= LARGEST_SIDE // 2:
                    return side
                raise ValueError
            case "threshold":
                score = float(text)
                if -1 <= score <= 1:
                    return score
                raise ValueError
    except ValueError:
        rule = f"a whole number from {LEAST_SIDE} to {LARGEST_SIDE // 2}" if key == "side" else "a number from -1 to 1"
        raise VariantRefused(f"{key}={text[:20]}: expected {rule}") from None
    known = {"model": tuple(BACKBONES), "precision": PRECISIONS, "crop": CROPS}[key]
    if text not in known:
        raise VariantRefused(f"{key}={text[:40]}: there is {', '.join(known)}")
    return text


def trial(settings: Settings, base: Artefact, variant: Variant, folder: Path) -> Chosen:
    """What a variant runs on. base: the collection's artefact; folder: where a graph that is made for it may lie.

    Blocks. Raises ArtefactMissing, ArtefactCorrupt, DeviceUnavailable, VariantRefused.
    """
    if variant.model is not None or variant.precision is not None:
        found = chosen.for_new(settings, variant.model or base.name, variant.precision)
    else:
        found = chosen.for_collection(settings, base)
    artefact = found.artefact
    if variant.side in (None, artefact.preprocessing.side) and variant.crop in (None, artefact.preprocessing.rule):
        return found
    if artefact.name not in BACKBONES:
        raise VariantRefused(f"{artefact.name} has one size and one crop")
    preprocessing = reshaped(artefact.preprocessing, variant)
    artefact = replace(
        artefact,
        preprocessing=preprocessing,
        fingerprint=f"{artefact.fingerprint}+{preprocessing.rule}{preprocessing.side}",
    )
    if preprocessing.side == found.artefact.preprocessing.side:
        return Chosen(artefact, found.run)
    graph = resized(artefact.path.read_bytes(), preprocessing.side)
    path = folder / f"{artefact.name}-{artefact.precision}-{preprocessing.side}.onnx"
    path.write_bytes(graph)
    # It proves itself against what it computes alone and on one thread: nobody recorded this size.
    made = golden.pack(golden_embedding(graph, preprocessing))
    return Chosen(replace(artefact, path=path, golden=made), None)


def reshaped(before: Preprocessing, variant: Variant) -> Preprocessing:
    """The same with the variant's side and crop.

    A crop cuts off the same share at the edges as before; squash and pad show the whole picture.
    """
    side, rule = variant.side or before.side, variant.crop or before.rule
    short = side if variant.crop in ("squash", "pad") else max(side, round(before.short_side * side / before.side))
    return replace(before, side=side, short_side=short, rule=rule)
