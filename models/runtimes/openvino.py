"""The Embedder on OpenVINO, as an execution provider that is plugged into onnxruntime.

Every session has a batch of one fixed size: with a free one the provider leaked memory. A session never falls back to
another provider. The provider offers itself on Intel's processors only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from models.artefact import Artefact
from models.embedder import Pixels
from models.errors import ArtefactCorrupt, DeviceUnavailable
from models.runtimes.onnxruntime import OnnxEmbedder, session_options
from models.runtimes.ways import Way

PACKAGE = "onnxruntime-ep-openvino"
BATCHES = (8, 4, 1)
_MODULE = "onnxruntime_ep_openvino"
_PROVIDER = "OpenVINOExecutionProvider"
_LIBRARY = "lookalike-openvino"


def installed() -> bool:
    """Whether the package is here; a session may still fail."""
    return find_spec(_MODULE) is not None


class OpenVinoEmbedder(OnnxEmbedder):
    """Runs an artefact in OpenVINO, checked against its golden embedding in every size of batch before anything else.

    way: of runtime "openvino". threads: of one run. batches: sizes a run may have, 1 among them; each costs the
    weights' memory. Open one after another. Raises ArtefactCorrupt and DeviceUnavailable.
    """

    def __init__(self, artefact: Artefact, way: Way, *, threads: int, batches: Sequence[int] = (1,)) -> None:
        self._describe(artefact)
        self.precision = way.precision
        self._devices, self._shifts = _cpu(), False
        self._threads = threads
        self._kernels = way.kernels
        self._batches = sorted(batches, reverse=True)
        self._sessions = {size: self._open(str(artefact.path), size) for size in self._batches}
        self.providers: list[str] = self._sessions[1].get_providers()
        if self.providers[0] != _PROVIDER:
            raise DeviceUnavailable(f"{PACKAGE} leaves the model to {self.providers[0]}")
        for size in self._batches:
            self._prove(artefact, size, way.least_cosine)

    def _session_of(self, part: Pixels) -> Any:
        return self._sessions[len(part)]

    def _parts(self, pixels: Pixels) -> Iterator[Pixels]:
        """Batches of the sizes there are sessions for, large ones first, none filled up."""
        at = 0
        while at < len(pixels):
            size = next(each for each in self._batches if each <= len(pixels) - at)
            yield pixels[at : at + size]
            at += size

    def _map_parts(self, pixels: Pixels) -> Iterator[Pixels]:
        for at in range(len(pixels)):
            yield pixels[at : at + 1]

    def _open(self, graph: str | bytes, batch: int = 1) -> Any:
        import onnxruntime

        options = session_options(self._threads)
        options.add_free_dimension_override_by_name("batch", batch)
        options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        # Pinned, which is its default, two sessions of one thread each share one core.
        wanted = {
            "INFERENCE_PRECISION_HINT": self._kernels,
            "INFERENCE_NUM_THREADS": str(self._threads),
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",
        }
        try:
            options.add_provider_for_devices(self._devices, {"load_config": json.dumps({"CPU": wanted})})
            return onnxruntime.InferenceSession(graph, options)
        except Exception as error:  # onnxruntime raises kinds of its own that it does not export
            reason = str(error).splitlines()[0][:200]
            raise ArtefactCorrupt(f"{PACKAGE} does not load {self._path}: {reason}") from error


def _cpu() -> list[Any]:
    """This machine's processor as the provider's device. Raises DeviceUnavailable."""
    import onnxruntime

    found = _offered()
    if not found:
        try:
            module = __import__(_MODULE)
            onnxruntime.register_execution_provider_library(_LIBRARY, module.get_library_path())
        except ImportError:
            raise DeviceUnavailable(
                f"the package {PACKAGE} is not installed (x86-64 only): pip install {PACKAGE}"
            ) from None
        except Exception as error:
            reason = str(error).splitlines()[0][:200]
            if "already" not in reason:
                raise DeviceUnavailable(f"{PACKAGE} does not load: {reason}") from error
        found = _offered()
    if not found:
        raise DeviceUnavailable(f"{PACKAGE} does not offer itself for this processor")
    return found


def _offered() -> list[Any]:
    import onnxruntime

    kind = onnxruntime.OrtHardwareDeviceType.CPU
    return [each for each in onnxruntime.get_ep_devices() if each.ep_name == _PROVIDER and each.device.type == kind][:1]
