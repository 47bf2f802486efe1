"""An Evaluation: everything that was measured, as a report and a program need it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from service.evaluation.figures import Answered, Seen
from service.evaluation.ranking import Listed
from service.evaluation.table import By, Complaint


@dataclass(frozen=True, slots=True)
class Row:
    """One way to search, in a comparison. name: "as it is", or the variant's."""

    name: str
    figures: Mapping[str, Any]
    images_per_second: float | None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """collection, model: names. key: of the labels; by: what decides what is right. source: of the threshold.

    answered: what the service itself said to some of the queries. rows: the comparison, if one was asked for; compared:
    items and queries that all its rows have.
    """

    collection: str
    model: str
    key: str
    by: By
    source: str
    seen: Seen
    listed: Listed
    figures: Mapping[str, Any]
    answered: Answered
    worst: Sequence[int]
    complaints: Sequence[Complaint] = ()
    rows: Sequence[Row] = ()
    compared: tuple[int, int] = (0, 0)
    thumbnails: Mapping[str, bytes] = field(default_factory=dict)  # by item
    pictures: Mapping[int, bytes | None] = field(default_factory=dict)  # by query

    def as_json(self) -> dict[str, Any]:
        """For a program; without pictures."""
        judged = self.seen.ranked.judged
        return {
            "collection": self.collection,
            "model": self.model,
            "relevant": "id" if self.by == "id" else self.key,
            "threshold_source": self.source,
            **self.figures,
            "answered": self.answered.as_json(),
            "comparison": [
                {
                    "name": row.name,
                    **{key: value for key, value in row.figures.items() if key != "labels"},
                    "images_per_second": row.images_per_second,
                }
                for row in self.rows
            ],
            "worst": [
                {
                    "query": self.seen.names[number],
                    "wanted": self.seen.wanted[number] or None,
                    "best_score": judged[number].best,
                    "nearest": None if not judged[number].nearest else self.listed.ids[judged[number].nearest[0]],
                    "first_right": judged[number].first,
                }
                for number in self.worst
            ],
            "left_out": [asdict(each) for each in self.complaints],
        }
