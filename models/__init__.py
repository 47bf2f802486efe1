"""From picture bytes to unit vectors: decoding, weights, the ONNX graph, sessions. Knows nothing of items, SQL or HTTP."""
