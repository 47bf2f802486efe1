"""Int8 weights moved by one step, zero point and all: the same numbers, and another kernel.

onnxruntime multiplies weights whose zero point is 0 with kernels for VNNI; any other zero point takes its general
matrix product, which has AMX. w − 1 with zero point −1 is w with zero point 0; int8 holds it, as ours are −127…127.
"""

from __future__ import annotations

import numpy as np


def shifted(graph: bytes) -> bytes:
    """The same graph, its ordinary convolutions' int8 weights and their zero points less one; depthwise ones stay."""
    import onnx  # what serves needs it only for this
    from onnx import numpy_helper

    model = onnx.load_from_string(graph)
    values = {tensor.name: tensor for tensor in model.graph.initializer}
    made = {node.output[0]: node for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for node in model.graph.node:
        group = next((each.i for each in node.attribute if each.name == "group"), 1)
        if node.op_type != "Conv" or group != 1 or node.input[1] not in made:
            continue
        weights, _, zero = (values[name] for name in made[node.input[1]].input)
        steps, point = numpy_helper.to_array(weights), numpy_helper.to_array(zero)
        if steps.dtype != np.int8 or steps.min() == -128 or point.any():
            continue
        weights.CopyFrom(numpy_helper.from_array(steps - np.int8(1), weights.name))
        zero.CopyFrom(numpy_helper.from_array(point - np.int8(1), zero.name))
    rewritten: bytes = model.SerializeToString()
    return rewritten
