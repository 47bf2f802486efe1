"""Calibration: what a threshold is to be measured on, and what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from service.http.schemas.base import Answer, Texts
from service.http.schemas.fields import UNGROUPED, Cosine, Count, ItemId, Share, Text, Timestamp, text
from service.http.schemas.imports import File
from service.quality.calibration import DEFAULT_RATE, MAX_NAMED


class CalibrationForm(Texts):
    """What a collection is calibrated on, as multipart/form-data."""

    blanks: ClassVar[frozenset[str]] = frozenset({"false_accept_rate", "label"})

    negatives: File | None = Field(
        None,
        description="A .zip or .tar.gz of pictures that have no match in the collection; left out: the catalogue's own "
        "scores decide, and false accepts are not measured",
    )
    pairs: File | None = Field(
        None,
        description="A .csv of pictures that have a match: a column `image`, the path in `pictures`, and one "
        "`id` of the item, or `label` of the items, that it should find",
    )
    pictures: File | None = Field(
        None, description="A .zip or .tar.gz of the pictures that `pairs` names; others in it are passed over"
    )
    false_accept_rate: Annotated[float, UNGROUPED] = Field(
        DEFAULT_RATE,
        ge=0.0001,
        le=0.5,
        allow_inf_nan=False,
        description="The share of such pictures that may be answered with a match; left out: 0.01",
    )
    label: str | None = Field(
        None,
        min_length=1,
        max_length=256,
        description="A metadata key: what is kept of each of its values is told too; `pairs` look for "
        "their labels under it (left out: `label`)",
    )


class MeasuredShare(Answer):
    """How many of how many, with the exact 95 % interval (Clopper and Pearson)."""

    value: Share = Field(description="hits / count")
    low: Share = Field(description="Lower end of the interval")
    high: Share = Field(description="Upper end of the interval")
    hits: Count = Field(description="How many")
    count: Count = Field(description="Of how many")


class LabelShare(MeasuredShare):
    """The same of the items with one label."""

    label: Text = Field(description="The value of the metadata key")


class Negative(Answer):
    """A picture that should have no match, and the item nearest to it."""

    name: Text = Field(description="Its path in the archive")
    score: Cosine = Field(description="Of the nearest item")
    id: ItemId


class FailedNegative(Answer):
    """A picture that could not be used."""

    name: Text = Field(description="Its path in the archive")
    reason: Text = Field(description="Why")


class CurvePoint(Answer):
    """What one threshold would do."""

    score_threshold: Cosine = Field(description="The threshold")
    false_accepts: Share = Field(description="Share of the negatives that reach it")
    kept: Share = Field(description="Share of the pairs' pictures, or of the catalogue's own items, that reach it")


class RecommendedPoint(Answer):
    """The threshold that parts pairs and negatives best; to take it, set the collection's `score_threshold`."""

    score_threshold: Cosine = Field(description="The threshold")
    kept: MeasuredShare = Field(description="Of the pairs' pictures")
    false_accepts: MeasuredShare = Field(description="Of the negatives")


Named = Annotated[list[Negative], Field(max_length=MAX_NAMED)]


class Calibration(Answer):
    """The calibration in force: the threshold, and what was measured, on how many."""

    score_threshold: Cosine = Field(description="Least score of a match")
    method: Literal["negatives", "pairs", "catalogue"] = Field(
        description="`negatives`: conformal, from pictures without a match; `pairs`: what 95 % of the pairs' pictures "
        "reach; `catalogue`: what 95 % of the items reach with another item, duplicates left out"
    )
    false_accept_rate: Share | None = Field(description="As asked, at most; null without negatives")
    false_accepts: MeasuredShare | None = Field(description="Of the negatives; null without any")
    kept: MeasuredShare | None = Field(
        description="Of the pairs' pictures, or else of the catalogue's own items as queries, each without itself "
        "and its duplicates; null where each stands alone"
    )
    kept_of: Literal["pairs", "catalogue"] = Field(description="Whose share `kept` is")
    nearest_right: MeasuredShare | None = Field(
        description="Of the pairs' pictures: the nearest item is the one named, or has the label; null without pairs"
    )
    recommended: RecommendedPoint | None = Field(
        description="Where the share kept less the share of false accepts is largest; null without pairs and negatives"
    )
    worst_class: LabelShare | None = Field(description="The label of which least is kept, of those with five items")
    classes: Annotated[list[LabelShare], Field(max_length=MAX_NAMED)] = Field(description="The worst labels first")
    negatives: Count = Field(description="Pictures without a match that were measured")
    in_catalogue_count: Count = Field(description="Negatives that are in the catalogue after all, and were left out")
    in_catalogue: Named = Field(description="The first of them")
    suspected: Named = Field(description="Negatives as near to an item as items are to each other; they were measured")
    failed_count: Count = Field(description="Pictures that could not be used")
    failed: Annotated[list[FailedNegative], Field(max_length=MAX_NAMED)] = Field(description="The first of them")
    curve: Annotated[list[CurvePoint], Field(max_length=50)] = Field(description="What other thresholds would do")
    count: Count = Field(description="Items of the catalogue then")
    fingerprint: Text = Field(description="Of the model that the scores are of")
    warnings: Annotated[list[Annotated[str, text(256)]], Field(max_length=10)] = Field(
        description="What a person should know of it now"
    )
    version: Count = Field(description="Another one after each calibration")
    created_at: Timestamp = Field(description="RFC 3339, UTC")

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Calibration:
        """The same as it is sent. value: as `service.quality.calibrating.described` gives it."""
        several: dict[str, type[Answer]] = {
            "classes": LabelShare,
            "in_catalogue": Negative,
            "suspected": Negative,
            "failed": FailedNegative,
            "curve": CurvePoint,
        }
        one: dict[str, type[Answer]] = {
            "false_accepts": MeasuredShare,
            "kept": MeasuredShare,
            "nearest_right": MeasuredShare,
            "worst_class": LabelShare,
        }
        given = dict(value)
        given |= {name: [model(**each) for each in value[name]] for name, model in several.items()}
        given |= {name: None if value[name] is None else model(**value[name]) for name, model in one.items()}
        if (point := value["recommended"]) is not None:
            shares = {name: MeasuredShare(**point[name]) for name in ("kept", "false_accepts")}
            given["recommended"] = RecommendedPoint(score_threshold=point["score_threshold"], **shares)
        return cls(**given)
