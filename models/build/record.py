"""Recording: the golden embeddings of a backbone's published weights, once per graph: `python -m models.build.record`.

They come from sessions without optimisation, where the int8 graph is computed in floating point, so that no kernel of
one processor decides what all others are measured against.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from models import golden
from models.build.build import builder_of, graph_of
from models.embedder import INPUT, OUTPUT
from models.registry import BACKBONES, Backbone


def record(chosen: Backbone, weights: Path) -> None:
    """Writes the backbone's `golden.json` from its published package, already fetched."""
    assert chosen.package is not None
    builder = builder_of(chosen)
    network = builder.read(weights, chosen.package.source)
    side = chosen.preprocessing.side
    recorded = {"picture": golden.PICTURE, "weights": network.source}
    for precision in ("fp32", "int8"):
        recorded[precision] = golden.pack(_plain(graph_of(builder, network, precision), side))
    builder.GOLDEN.write_text(json.dumps(recorded, indent=1) + "\n")


def _plain(model: onnx.ModelProto, side: int) -> npt.NDArray[np.float32]:
    """The embedding of the golden picture, every node computed by itself as it is written."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    embedding: npt.NDArray[np.float32] = session.run([OUTPUT], {INPUT: golden.golden_picture(side)[None]})[0][0]
    return embedding


def main() -> None:
    parser = argparse.ArgumentParser(description="Record a backbone's golden embeddings from its fetched package.")
    parser.add_argument("model", choices=[name for name, each in BACKBONES.items() if each.package is not None])
    parser.add_argument("weights", type=Path)
    arguments = parser.parse_args()
    record(BACKBONES[arguments.model], arguments.weights)


if __name__ == "__main__":
    main()
