"""A graph for pictures of another size: these networks are convolutions and one average over whatever they leave.

Vectors of another size are comparable with one another alone, so such a graph needs a fingerprint of its own.
"""

from __future__ import annotations

from models.embedder import INPUT
from models.errors import ArtefactCorrupt


def resized(graph: bytes, side: int) -> bytes:
    """The same graph for uint8 (batch, side, side, 3). Raises ArtefactCorrupt where its input is another one.

    A side that its strides do not divide is padded by the convolutions themselves.
    """
    import onnx  # what serves needs it only for this

    model = onnx.load_from_string(graph)
    inputs = [each for each in model.graph.input if each.name == INPUT]
    if len(inputs) != 1 or len(inputs[0].type.tensor_type.shape.dim) != 4:
        raise ArtefactCorrupt(f"the model has no input {INPUT} of pictures: run `lookalike model build`")
    _, rows, columns, _ = inputs[0].type.tensor_type.shape.dim
    rows.dim_value = columns.dim_value = side
    del model.graph.value_info[:]  # shapes on the way, which would be those of the old size
    rewritten: bytes = model.SerializeToString()
    return rewritten
