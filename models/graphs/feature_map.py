"""The last feature map: what the network knows of each place in a picture, before it is averaged into one vector.

A graph gets it as a second output when it is loaded. The file stays as it is, and with it its hash and fingerprint.
"""

from __future__ import annotations

from models.embedder import MAP
from models.errors import ArtefactCorrupt

_POOL = "GlobalAveragePool"


def with_map(graph: bytes) -> bytes:
    """The same graph with a second output MAP, float32 (batch, h, w, c): what its one global pooling averages.

    Raises ArtefactCorrupt where it has no such pooling.
    """
    import onnx  # what serves needs it only once somebody asks for maps
    from onnx import TensorProto, helper

    model = onnx.load_from_string(graph)
    pools = [node for node in model.graph.node if node.op_type == _POOL]
    if len(pools) != 1:
        raise ArtefactCorrupt("the model has no feature map: it does not end in one global average")
    # Cast and turned beside the pooling: the way to the vector keeps the nodes, and so the kernels, that it had.
    value = pools[0].input[0]
    model.graph.node.append(helper.make_node("Cast", [value], [f"{MAP}_planes"], to=TensorProto.FLOAT))
    model.graph.node.append(helper.make_node("Transpose", [f"{MAP}_planes"], [MAP], perm=[0, 2, 3, 1]))
    shape = ["batch", "rows", "columns", "channels"]
    model.graph.output.append(helper.make_tensor_value_info(MAP, TensorProto.FLOAT, shape))
    rewritten: bytes = model.SerializeToString()
    return rewritten
