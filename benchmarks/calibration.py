"""What a calibrated threshold does: false accepts on strangers never seen, and genuine queries kept.

    python -m benchmarks.calibration [--model resnet50] [--precision int8]

Each row: 200 random halves of the strangers give the threshold for 1 %, the other halves (or all pictures of another
kind) are judged. The rules are compared on the same halves: best is the nearest item's cosine, which is the product's;
the others look at the neighbourhood of what was found.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from benchmarks import report
from benchmarks.retrieval import CORES, Decoded, Floats, embed
from models import artefact
from models.runtimes.onnxruntime import OnnxEmbedder
from service.quality.conformal import threshold
from service.quality.shares import share
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
COLUMNS = ("catalogue, judged on", "rule", "false accepts, mean", "5 % of splits", "95 % of splits", "genuine kept")

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


def judged(
    strangers: Floats, other: Floats | None, genuine: Floats, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], float]:
    """False accepts of each split, and the mean share of genuine queries kept. other: judged instead of the halves."""
    accepted, kept = [], []
    for _ in range(SPLITS):
        order = rng.permutation(len(strangers))
        half = len(order) // 2
        least = threshold(strangers[order[:half]], RATE)
        accepted.append(float(((strangers[order[half:]] if other is None else other) >= least).mean()))
        kept.append(float((genuine >= least).mean()))
    return np.array(accepted), float(np.mean(kept))


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
    rows: list[list[object]] = []
    figures: dict[str, object] = {}
    for name, (listed, asked) in PAIRS.items():
        catalogue = vectors[listed]
        around = density(catalogue)
        away = ("groceries", "queries") if name == "clothing" else ("clothing", "queries")
        others = {"the other half": None, f"{away[0]} instead": vectors[away], "noise instead": noise}
        for kind, other in others.items():
            for rule, score in rules().items():
                if other is not None and rule != "best":
                    continue
                parts = [vectors[STRANGERS], vectors[asked], *([other] if other is not None else [])]
                strangers, genuine, *more = (score(*seen(catalogue, part, around)) for part in parts)
                rng = np.random.default_rng(11)
                accepted, kept = judged(strangers, more[0] if more else None, genuine, rng)
                low, high = np.quantile(accepted, [0.05, 0.95])
                rows.append([f"{name}, {kind}", rule, float(accepted.mean()), float(low), float(high), kept])
                figures[f"{name}/{kind}/{rule}"] = {"false_accepts": float(accepted.mean()), "kept": kept}
    interval = share(0, len(vectors[STRANGERS]) // 2)
    title = f"Calibration to 1 %: {built.name} {built.precision}, 100 of 200 unrelated photographs, 200 random halves"
    note = (
        f"None of 100 accepted leaves 0 to {interval.high:.3f} as the 95 % interval of one split. Some of the "
        "unrelated photographs show fruit, which groceries resemble: a half that holds them gives a higher threshold."
    )
    report.print_table(title, COLUMNS, rows)
    report.json_line("calibration", figures)
    report.record("calibration", title=title, columns=COLUMNS, rows=rows, note=note)


if __name__ == "__main__":
    main()
