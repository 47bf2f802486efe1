"""From picture bytes to unit vectors: decoding, weights, the ONNX graph, sessions. Knows no items, SQL or HTTP."""
