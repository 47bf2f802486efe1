"""Pixels in, unit vectors out, or an error: never a zero or non-finite vector.

Batch-only and synchronous; who calls it decides about threads. One session serves concurrent callers.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from models import golden
from models.artefact import Artefact
from models.errors import ArtefactCorrupt, DeviceUnavailable, EmbeddingInvalid
from models.graph import INPUT, OUTPUT, SIDE

Pixels = npt.NDArray[np.uint8]
Embeddings = npt.NDArray[np.float32]


class Embedder(Protocol):
    """fingerprint: equal for embedders whose vectors may be compared. dim: length of an embedding."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def dim(self) -> int: ...

    def embed(self, pixels: Pixels) -> Embeddings:
        """uint8 (n, h, w, 3) RGB → float32 (n, dim), rows of unit length. Raises EmbeddingInvalid."""
        ...


class OnnxEmbedder:
    """Runs an artefact in onnxruntime and checks it against its golden embedding before anything else.

    threads: CPU threads of one run. device: "cpu", "cuda", or "auto" (CUDA where it works, else CPU; `providers` tells
    which). spin: let idle threads spin, for benchmarks only. Raises ArtefactCorrupt and DeviceUnavailable.
    """

    def __init__(self, artefact: Artefact, *, threads: int, device: str = "cpu", spin: bool = False) -> None:
        import onnxruntime

        self.name = artefact.name
        self.precision = artefact.precision
        self.fingerprint = artefact.fingerprint
        self.dim = artefact.dim
        wanted = _providers(onnxruntime.get_available_providers(), device)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # Spinning threads would keep an idle server's cores busy and fight with the decoders under load.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1" if spin else "0")
        try:
            self._session: Any = onnxruntime.InferenceSession(str(artefact.path), options, providers=wanted)
        except Exception as error:  # onnxruntime raises kinds of its own that it does not export
            reason = str(error).splitlines()[0][:200]
            raise ArtefactCorrupt(f"onnxruntime does not load {artefact.path}: {reason}") from error
        self.providers: list[str] = self._session.get_providers()
        if device == "cuda" and not self.providers[0].startswith(("CUDA", "Tensorrt")):
            raise DeviceUnavailable(
                "CUDA was asked for, but onnxruntime runs on the CPU: check driver and CUDA libraries"
            )
        found = self._run(golden.golden_picture()[None])[0]
        golden.check(found, golden.unpack(artefact.golden), artefact.precision, str(artefact.path))

    def embed(self, pixels: Pixels) -> Embeddings:
        """uint8 (n, 224, 224, 3) RGB → float32 (n, dim), unit rows.

        Raises EmbeddingInvalid, and ValueError for pixels of another shape or type.
        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (SIDE, SIDE, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (n, {SIDE}, {SIDE}, 3)")
        if len(pixels) == 0:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._run(pixels))

    def _run(self, pixels: Pixels) -> Embeddings:
        embeddings: Embeddings = self._session.run([OUTPUT], {INPUT: pixels})[0]
        return embeddings


def unit_rows(embeddings: Embeddings) -> Embeddings:
    """Checks that every row has unit length. Raises EmbeddingInvalid naming the rows that do not."""
    lengths = np.linalg.norm(embeddings, axis=1)
    bad = np.flatnonzero(~(np.abs(lengths - 1.0) < 1e-3))
    if len(bad):
        raise EmbeddingInvalid(f"the network gave no direction for picture {', '.join(map(str, bad[:5]))} of the batch")
    return embeddings


def _providers(available: list[str], device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    if device == "cuda" and "CUDAExecutionProvider" not in available:
        raise DeviceUnavailable(
            "CUDA was asked for, but this onnxruntime has no CUDA: install onnxruntime-gpu (`make setup`)"
        )
    return [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in available]
