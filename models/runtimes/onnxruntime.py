"""The Embedder on onnxruntime: unit vectors or an error, never a zero or non-finite vector.

One session serves concurrent callers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models import golden
from models.artefact import Artefact, check
from models.embedder import INPUT, MAP, OUTPUT, Embeddings, FeatureMaps, Pixels
from models.errors import ArtefactCorrupt, DeviceUnavailable, EmbeddingInvalid
from models.graphs.feature_map import with_map
from models.graphs.shifted import shifted
from models.preprocessing import Preprocessing

# Batch sizes a GPU is given.
BUCKETS = (1, 2, 4, 8, 16, 32, 64)

_CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TENSORRT = "TensorrtExecutionProvider"


class OnnxEmbedder:
    """Runs an artefact in onnxruntime and checks it against its golden embedding before anything else.

    threads: CPU threads of one run. device: "cpu", "cuda", or "auto" (CUDA where it works, else CPU; `providers` says
    which). spin: let idle threads spin, for benchmarks only. engine_cache: where TensorRT keeps its engines; without it
    TensorRT is not used, since it compiles for minutes. kernels: "amx" to shift int8 weights, so that AMX takes them;
    the vectors stay the same to the bit. Raises ArtefactCorrupt and DeviceUnavailable.
    """

    def __init__(
        self,
        artefact: Artefact,
        *,
        threads: int,
        device: str = "cpu",
        spin: bool = False,
        engine_cache: Path | None = None,
        kernels: str = "plain",
    ) -> None:
        import onnxruntime

        self._describe(artefact)
        self._wanted = wanted_providers(
            onnxruntime.get_available_providers(), device, self.preprocessing.side, engine_cache
        )
        self._threads, self._spin, self._shifts = threads, spin, kernels == "amx"
        self._session: Any = self._open(shifted(_read(self._path)) if self._shifts else str(self._path))
        # It falls back to the CPU without a word, so what the session says is what counts.
        self.providers: list[str] = self._session.get_providers()
        self._buckets = () if self.providers[0] == _CPU else BUCKETS
        if device == "cuda" and not self._buckets:
            raise DeviceUnavailable(
                "CUDA was asked for, but onnxruntime fell back to the CPU: check the driver and the CUDA libraries"
            )
        self._prove(artefact, 1, golden.MIN_COSINE[artefact.precision])

    def _describe(self, artefact: Artefact) -> None:
        self.name = artefact.name
        self.precision = artefact.precision
        self.fingerprint = artefact.fingerprint
        self.dim = artefact.dim
        self.preprocessing = artefact.preprocessing
        self._path = artefact.path
        self._mapping: Any = None
        self._opening = threading.Lock()

    def _prove(self, artefact: Artefact, batch: int, least: float) -> None:
        """Embeds the golden picture `batch` times at once. Raises ArtefactCorrupt unless each comes out right."""
        picture = golden.golden_picture(self.preprocessing.side)
        try:
            rows = self._run(np.stack([picture] * batch))
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            raise ArtefactCorrupt(
                f"{self._path} does not take what its manifest says ({reason}): run `lookalike model build`"
            ) from error
        if rows.shape != (batch, self.dim):
            raise ArtefactCorrupt(
                f"{self._path} gives {rows[0].size} numbers, its manifest says {self.dim}: run `lookalike model build`"
            )
        for row in rows:
            golden.check(row, golden.unpack(artefact.golden), artefact.precision, str(self._path), least)

    def embed(self, pixels: Pixels) -> Embeddings:
        """uint8 (n, side, side, 3) RGB → float32 (n, dim), unit rows; `side` is the preprocessing's.

        Raises EmbeddingInvalid, and ValueError for pixels of another shape or type.
        """
        self._expect(pixels)
        if len(pixels) == 0:
            return np.zeros((0, self.dim), np.float32)
        return unit_rows(self._run(pixels))

    def embed_with_map(self, pixels: Pixels) -> tuple[Embeddings, FeatureMaps]:
        """As `Embedder.embed_with_map`. Raises as `embed`, and ArtefactCorrupt where the file no longer loads."""
        self._expect(pixels)
        session = self._session_with_map()
        if len(pixels) == 0:  # a graph says its map's shape only by computing one
            _, maps = self.embed_with_map(golden.golden_picture(self.preprocessing.side)[None])
            return np.zeros((0, self.dim), np.float32), maps[:0]
        parts = self._map_parts(pixels)
        found = [session.run([OUTPUT, MAP], {INPUT: network_input(part, self.preprocessing)}) for part in parts]
        rows, maps = (np.concatenate(each)[: len(pixels)] for each in zip(*found, strict=True))
        return unit_rows(rows), maps

    def _session_with_map(self) -> Any:
        with self._opening:
            if self._mapping is None:
                graph = _read(self._path)
                self._mapping = self._open(with_map(shifted(graph) if self._shifts else graph))
            return self._mapping

    def _open(self, graph: str | bytes) -> Any:
        """A session of a file or of a graph's bytes. Raises ArtefactCorrupt."""
        import onnxruntime

        options = session_options(self._threads)
        # Threads that spin between a run's operators save 1 to 2 ms of it; after the run they would keep an idle
        # server's cores busy and fight with the decoders, so there they stop.
        options.add_session_config_entry("session.intra_op.allow_spinning", "1")
        options.add_session_config_entry("session.force_spinning_stop", "0" if self._spin else "1")
        try:
            return onnxruntime.InferenceSession(graph, options, providers=self._wanted)
        except Exception as error:  # onnxruntime raises kinds of its own that it does not export
            reason = str(error).splitlines()[0][:200]
            raise ArtefactCorrupt(f"onnxruntime does not load {self._path}: {reason}") from error

    def _expect(self, pixels: Pixels) -> None:
        side = self.preprocessing.side
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (side, side, 3):
            raise ValueError(f"pixels are {pixels.dtype} {pixels.shape}, expected uint8 (n, {side}, {side}, 3)")

    def _run(self, pixels: Pixels) -> Embeddings:
        rows: list[Embeddings] = [
            self._session_of(part).run([OUTPUT], {INPUT: network_input(part, self.preprocessing)})[0]
            for part in self._parts(pixels)
        ]
        return rows[0] if len(rows) == 1 and len(rows[0]) == len(pixels) else np.concatenate(rows)[: len(pixels)]

    def _session_of(self, _part: Pixels) -> Any:
        return self._session

    def _parts(self, pixels: Pixels) -> Iterator[Pixels]:
        return bucketed(pixels, self._buckets) if self._buckets else iter([pixels])

    def _map_parts(self, pixels: Pixels) -> Iterator[Pixels]:
        return self._parts(pixels)


def session_options(threads: int) -> Any:
    """onnxruntime's options for runs of `threads` threads that log nothing below an error."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ArtefactCorrupt(f"cannot read {path}: {error.strerror or error}") from error


def verify(artefact: Artefact) -> None:
    """Checks the file's hash and that it computes its golden embedding here, on the CPU. Raises ArtefactCorrupt."""
    check(artefact)
    OnnxEmbedder(artefact, threads=1)


def golden_embedding(graph: bytes, preprocessing: Preprocessing) -> Embeddings:
    """A graph's embedding of the golden picture, float32 (dim,), on one CPU thread. Raises ArtefactCorrupt."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(graph, session_options(1), providers=[_CPU])
        pixels = golden.golden_picture(preprocessing.side)[None]
        rows: Embeddings = session.run([OUTPUT], {INPUT: network_input(pixels, preprocessing)})[0]
    except Exception as error:  # onnxruntime raises kinds of its own that it does not export
        raise ArtefactCorrupt(f"onnxruntime does not run the model: {str(error).splitlines()[0][:200]}") from error
    embedding: Embeddings = rows[0]
    return embedding


def network_input(pixels: Pixels, preprocessing: Preprocessing) -> Pixels | npt.NDArray[np.float32]:
    """The bytes themselves, or float32 with mean and deviation applied where the graph does not hold them."""
    if preprocessing.mean is None or preprocessing.deviation is None:
        return pixels
    values = pixels.astype(np.float32)
    values -= np.array(preprocessing.mean, np.float32)
    values /= np.array(preprocessing.deviation, np.float32)
    return values


def unit_rows(embeddings: Embeddings) -> Embeddings:
    """Checks that every row has unit length. Raises EmbeddingInvalid naming the rows that do not."""
    squares = np.einsum("ij,ij->i", embeddings, embeddings)
    fine = np.abs(squares - 1.0) < 2e-3  # false for NaN too
    if not fine.all():
        bad = np.flatnonzero(~fine)
        raise EmbeddingInvalid(f"the network gave no direction for picture {', '.join(map(str, bad[:5]))} of the batch")
    return embeddings


def bucketed(pixels: Pixels, buckets: Sequence[int]) -> Iterator[Pixels]:
    """Batches of only these sizes (ascending), the last one filled up with black pictures.

    A GPU plans its kernels per batch size: a few sizes are planned once, any size would be planned again and again.
    """
    for start in range(0, len(pixels), buckets[-1]):
        part = pixels[start : start + buckets[-1]]
        missing = next(size for size in buckets if size >= len(part)) - len(part)
        yield np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.uint8)]) if missing else part


def wanted_providers(available: Sequence[str], device: str, side: int, engine_cache: Path | None = None) -> list[Any]:
    """What to ask onnxruntime for, best first, for pictures of side × side.

    Raises DeviceUnavailable where `device` is "cuda" and there is none.
    """
    if device == "cpu" or (device == "auto" and _CUDA not in available):
        return [_CPU]
    if _CUDA not in available:
        raise DeviceUnavailable(
            "CUDA was asked for, but this onnxruntime has no CUDA: run `make setup` on a machine with an NVIDIA driver "
            "(it installs onnxruntime-gpu), or set LOOKALIKE_DEVICE=cpu"
        )
    providers: list[Any] = [(_CUDA, {"prefer_nhwc": "1"}), _CPU]
    if engine_cache is not None and _TENSORRT in available:
        shape = f"x{side}x{side}x3"
        tensorrt = {
            "trt_fp16_enable": "1",
            "trt_engine_cache_enable": "1",
            "trt_engine_cache_path": str(engine_cache),
            "trt_timing_cache_enable": "1",
            "trt_timing_cache_path": str(engine_cache),
            "trt_profile_min_shapes": f"{INPUT}:1{shape}",
            "trt_profile_opt_shapes": f"{INPUT}:{BUCKETS[-1]}{shape}",
            "trt_profile_max_shapes": f"{INPUT}:{BUCKETS[-1]}{shape}",
        }
        providers.insert(0, (_TENSORRT, tensorrt))
    return providers
