"""Records ResNet50's `activations.json` from real photographs, once per network: `python -m benchmarks.activations`."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import numpy as np
import onnx

from models.backbones.resnet50 import activations, builder
from models.build.build import build
from models.pictures.image import decode
from tests.harness import photographs

# Some of everything a catalogue may hold; every other stranger is left for judging.
_SAMPLES = (("groceries", "catalogue", 100), ("clothing", "catalogue", 100), ("unrelated", "images", 100))


def main() -> None:
    model_dir = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("data/models")
    base = build(model_dir)
    network = builder.recover(onnx.load(base.path), base.details, base.source)
    chosen = []
    for dataset, split, count in _SAMPLES:
        rows = photographs.split(dataset, split)
        random.Random(1).shuffle(rows)
        chosen += rows[:count]
    pixels = np.stack([decode(photo.path.read_bytes(), preprocessing=base.preprocessing).pixels for photo in chosen])
    target = Path(activations.__file__).with_name("activations.json")
    target.write_bytes(activations.dumps(activations.record(network, pixels)))
    print(f"{target}: {target.stat().st_size:,} bytes from {len(pixels)} photographs")


if __name__ == "__main__":
    main()
