"""The figures of an evaluation: from judged queries to a document. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from service.evaluation.ranking import BINS, TOP, Judged, Listed, Pairs, Ranked
from service.quality import conformal
from service.quality.shares import Share, share

AT = (1, 5, 10)
DRAWS = 1_000  # of the bootstrap
# Of pairs that do not belong together: where the range of thresholds that OPIS looks at begins and ends.
RANGE = (1e-1, 1e-3)
ROUNDING = 2e-4  # of a score, as the contract has it
LEAST_OF_LABEL = 5  # queries from which on a label can be called the worst


@dataclass(frozen=True, slots=True)
class Seen:
    """The queries that were searched with; those that have nothing to find are left out.

    wanted: "" of a stranger. labels: what each query is of, where that is known: `wanted`, or the label of the item
    that it names.
    """

    names: Sequence[str]
    wanted: Sequence[str]
    labels: Sequence[str]
    ranked: Ranked


def figures(seen: Seen, listed: Listed, threshold: float) -> dict[str, Any]:
    """What is reported of one way to search. threshold: least cosine of a match."""
    judged = seen.ranked.judged
    genuine = [each for each, wanted in zip(judged, seen.wanted, strict=True) if wanted]
    strangers = [each for each, wanted in zip(judged, seen.wanted, strict=True) if not wanted]
    return {
        "items": len(listed),
        "queries": len(genuine),
        "strangers": len(strangers),
        **{
            f"recall_at_{k}": asdict(
                share(sum(each.first is not None and each.first <= k for each in genuine), len(genuine))
            )
            if genuine
            else None
            for k in AT
        },
        "precision_at_10": mean([sum(each.right) / max(1, min(TOP, len(each.right))) for each in genuine]),
        "mean_average_precision": mean([each.average_precision for each in genuine]),
        "threshold": threshold,
        "no_match": no_match(genuine, strangers, threshold),
        "false_accepts_by_label": by_label(seen, threshold),
        "opis": opis(seen.ranked.pairs),
        "labels": labels(seen, listed, threshold),
    }


def mean(values: Sequence[float]) -> dict[str, float] | None:
    """With the 95 % interval of a bootstrap over the queries (B. Efron, 1979); None without any."""
    if not values:
        return None
    found = np.asarray(values, np.float64)
    rng = np.random.default_rng(5)
    counts = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), DRAWS if len(found) < 20_000 else 50)
    low, high = np.quantile(counts @ found / len(found), [0.025, 0.975])
    return {"value": float(found.mean()), "low": float(low), "high": float(high)}


def no_match(genuine: Sequence[Judged], strangers: Sequence[Judged], threshold: float) -> dict[str, Any]:
    """What "no similar images" is worth.

    precision: of the queries answered so, those that are strangers; recall: of the strangers, those answered so; kept:
    of the genuine ones, those answered with a match. parted: the chance that a genuine query scores more than a
    stranger. kept_at_rate: of the genuine ones, at the threshold that strangers reach with a chance of `rate`.
    """
    own, other = _best(genuine), _best(strangers)
    refused, refused_right = int((other < threshold).sum()), int((own < threshold).sum())
    found: dict[str, Any] = {
        "precision": asdict(share(refused, refused + refused_right))
        if refused + refused_right and len(other)
        else None,
        "recall": asdict(share(refused, len(other))) if len(other) else None,
        "kept": asdict(share(len(own) - refused_right, len(own))) if len(own) else None,
        "parted": None,
        "rate": None,
        "kept_at_rate": None,
    }
    if len(own) and len(other):
        ordered = np.sort(other)
        below = np.searchsorted(ordered, own, "left") + np.searchsorted(ordered, own, "right")
        found["parted"] = float(below.mean() / 2 / len(ordered))
        rate = max(0.01, conformal.smallest_rate(len(other)))
        least = conformal.threshold(other.astype(np.float32), rate)
        found |= {"rate": rate, "kept_at_rate": asdict(share(int((own >= least).sum()), len(own)))}
    return found


def by_label(seen: Seen, threshold: float) -> dict[str, Any] | None:
    """How evenly false accepts fall on the classes of the catalogue; None without any, or with very many.

    Of each class the share of queries, strangers among them, that belong elsewhere and score at least the threshold
    with one of its items. spread: the standard deviation over the classes.
    """
    ranked = seen.ranked
    if not ranked.classes or not ranked.judged:
        return None
    places = {label: place for place, label in enumerate(ranked.classes)}
    own = np.zeros(ranked.class_best.shape, bool)
    for number, label in enumerate(seen.labels):
        if label in places:
            own[number, places[label]] = True
    accepted = ((ranked.class_best >= threshold) & ~own).sum(axis=0)
    others = (~own).sum(axis=0)
    rates = accepted / np.maximum(1, others)
    worst = int(rates.argmax())
    return {
        "classes": len(ranked.classes),
        "mean": float(rates.mean()),
        "spread": float(rates.std()),
        "worst": {"label": ranked.classes[worst], **asdict(share(int(accepted[worst]), int(others[worst])))},
    }


def opis(pairs: Pairs) -> float | None:
    """How much one threshold means something else for each label: 0 for all alike; None with fewer than two labels.

    The operating-point-inconsistency score (Q. Zhang et al., Threshold-Consistent Margin Loss, ICLR 2024): the variance
    over labels of a utility (harmonic mean of the share of right pairs kept and of wrong ones refused), averaged over
    the thresholds between which from RANGE[0] to RANGE[1] of all wrong pairs are accepted. Scores count in steps of
    1/200.
    """
    enough = (pairs.right.sum(axis=1) > 0) & (pairs.wrong.sum(axis=1) > 0)
    right, wrong = pairs.right[enough], pairs.wrong[enough]
    if len(right) < 2:
        return None
    kept, accepted = _reaching(right), _reaching(wrong)
    overall = _reaching(wrong.sum(axis=0, keepdims=True))[0]
    inside = np.flatnonzero((overall <= RANGE[0]) & (overall >= RANGE[1]))
    if not len(inside):
        inside = np.array([int(np.argmin(np.abs(overall - RANGE[0])))])
    specific = 1 - accepted[:, inside]
    utility = 2 * kept[:, inside] * specific / np.maximum(1e-12, kept[:, inside] + specific)
    return float(utility.var(axis=0).mean())


def labels(seen: Seen, listed: Listed, threshold: float) -> list[dict[str, Any]]:
    """Of each label that is asked for, the worst first; confused: the label that comes first most often instead."""
    groups: dict[str, list[Judged]] = defaultdict(list)
    for each, wanted, label in zip(seen.ranked.judged, seen.wanted, seen.labels, strict=True):
        if wanted and label:
            groups[label].append(each)
    rows = []
    for label, own in groups.items():
        instead = Counter(
            value
            for each in own
            if each.nearest and not each.right[0]
            for value in (listed.labels[each.nearest[0]] or (listed.ids[each.nearest[0]],))[:1]
        )
        rows.append(
            {
                "label": label,
                "queries": len(own),
                "items": max(each.relevant + each.same for each in own),
                "recall_at_1": asdict(share(sum(each.first == 1 for each in own), len(own))),
                "mean_average_precision": float(np.mean([each.average_precision for each in own])),
                "kept": sum((each.best or -1) >= threshold for each in own) / len(own),
                "confused": instead.most_common(1)[0][0] if instead else None,
            }
        )
    return sorted(rows, key=lambda row: (row["mean_average_precision"], row["label"]))


def worst(seen: Seen, threshold: float, count: int) -> list[int]:
    """The queries that went most wrong: accepted strangers by score, then those whose right items come latest.

    Half of each where there are enough of both.
    """
    numbers = range(len(seen.wanted))
    judged = seen.ranked.judged
    accepted = [n for n in numbers if not seen.wanted[n] and (judged[n].best or -1) >= threshold]
    accepted.sort(key=lambda n: -(judged[n].best or -1))
    missed = [n for n in numbers if seen.wanted[n] and judged[n].first != 1]
    missed.sort(key=lambda n: (judged[n].average_precision, -(judged[n].first or 0)))
    some = max(count // 2, count - len(missed))
    chosen = accepted[:some]
    return missed[: count - len(chosen)] + chosen


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """What the service answered to one query, its own copies left out. right, scores: of the first TOP results.

    by_cosine: whether results are in the order of their scores, and not of a learnt similarity; took: `took_ms`.
    """

    judged: Judged
    genuine: bool
    right: Sequence[bool]
    scores: Sequence[float]
    by_cosine: bool
    took: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Answered:
    """Figures of what the service itself answered. queries: so many were asked; recall_at: by k, None without any.

    index_recall: of the exact ten nearest, the share that came; None where another order than the cosine's was asked.
    latency: milliseconds by stage, p50 and p95.
    """

    queries: int
    recall_at: Mapping[int, Share | None]
    precision_at_10: float | None
    index_recall: float | None
    latency: Mapping[str, Mapping[str, float]] | None

    def as_json(self) -> dict[str, Any]:
        """For a program."""
        return {
            "queries": self.queries,
            **{f"recall_at_{k}": None if each is None else asdict(each) for k, each in self.recall_at.items()},
            "precision_at_10": self.precision_at_10,
            "index_recall_at_10": self.index_recall,
            "latency_ms": self.latency,
        }


def answered(answers: Sequence[OneAnswer]) -> Answered:
    """Figures of some answers."""
    own = [each for each in answers if each.genuine]
    pairs = [each for each in answers if each.by_cosine and each.judged.scores]
    came = sum(
        min(len(each.judged.scores), sum(score >= each.judged.scores[-1] - ROUNDING for score in each.scores))
        for each in pairs
    )
    most = sum(len(each.judged.scores) for each in pairs)
    return Answered(
        len(answers),
        {k: share(sum(any(each.right[:k]) for each in own), len(own)) if own else None for k in AT},
        float(np.mean([sum(each.right) / max(1, len(each.right)) for each in own])) if own else None,
        came / most if most and len(pairs) == len(answers) else None,
        latency([each.took for each in answers]),
    )


def latency(samples: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]] | None:
    """Milliseconds of each stage: p50, p95. samples: `took_ms` of searches; None without any."""
    if not samples:
        return None
    found = {}
    for stage in samples[0]:
        p50, p95 = np.quantile([each[stage] for each in samples], [0.5, 0.95])
        found[stage] = {"p50": round(float(p50), 2), "p95": round(float(p95), 2)}
    return found


def best_scores(seen: Seen, *, strangers: bool) -> npt.NDArray[np.float64]:
    """Of each genuine query, or of each stranger, that has anything to be compared with."""
    return _best(
        [each for each, wanted in zip(seen.ranked.judged, seen.wanted, strict=True) if (not wanted) == strangers]
    )


def _best(judged: Sequence[Judged]) -> npt.NDArray[np.float64]:
    return np.array([-1.0 if each.best is None else each.best for each in judged], np.float64)


def _reaching(counts: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Shares (labels, BINS) of pairs that score at least the lower edge of each bin."""
    assert counts.shape[1] == BINS
    tail = counts[:, ::-1].cumsum(axis=1)[:, ::-1]
    found: npt.NDArray[np.float64] = tail / np.maximum(1, tail[:, :1])
    return found
