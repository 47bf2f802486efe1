"""Records a backbone's `activations.json` from real photographs, once per network, before its golden embeddings.

python -m benchmarks.activations efficientnet-lite2 WHEEL
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np

from models.backbones.activations import dumps
from models.build.build import builder_of
from models.pictures.image import decode
from models.registry import BACKBONES
from tests.harness import photographs

# Some of everything a catalogue may hold; every other stranger is left for judging.
_SAMPLES = (("groceries", "catalogue", 100), ("clothing", "catalogue", 100), ("unrelated", "images", 100))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=[name for name, each in BACKBONES.items() if each.package is not None])
    parser.add_argument("weights", type=Path, help="its package, already fetched")
    arguments = parser.parse_args()
    backbone = BACKBONES[arguments.model]
    builder = builder_of(backbone)
    network = builder.read(arguments.weights, "")
    chosen = []
    for dataset, split, count in _SAMPLES:
        rows = photographs.split(dataset, split)
        random.Random(1).shuffle(rows)
        chosen += rows[:count]
    pixels = np.stack([decode(photo.read(), preprocessing=backbone.preprocessing).pixels for photo in chosen])
    builder.TABLE.write_bytes(dumps(builder.record(network, pixels)))
    print(f"{builder.TABLE}: {builder.TABLE.stat().st_size:,} bytes from {len(pixels)} photographs")


if __name__ == "__main__":
    main()
