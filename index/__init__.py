"""Items and vectors: the durable catalogue and the search over it. Knows nothing of images, ONNX or HTTP."""
