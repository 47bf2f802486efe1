"""The Way a model is run: by which runtime, from which file, with which kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from models.golden import MIN_COSINE

Runtime = Literal["onnxruntime", "openvino", "histogram"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")

# The product's int8 file has its rounding where onnxruntime fuses it; OpenVINO fuses otherwise. See docs/decisions.md.
_OPENVINO_INT8 = 0.998


@dataclass(frozen=True, slots=True)
class Way:
    """file: precision of the artefact.

    kernels: of onnxruntime "plain", or "amx" where int8 weights are shifted at load so that its AMX kernels take them;
    of openvino the type of what is no integer, "f32" or "bf16".
    """

    runtime: Runtime
    file: str
    kernels: str = "plain"

    @property
    def precision(self) -> str:
        """What it computes in: the file's, but "bf16" for a float file whose products are."""
        return "bf16" if (self.file, self.kernels) == ("fp32", "bf16") else self.file

    @property
    def least_cosine(self) -> float:
        """To the golden embedding, below which it computes something else."""
        if (self.runtime, self.file) == ("openvino", "int8"):
            return _OPENVINO_INT8
        return MIN_COSINE[self.precision]

    @property
    def label(self) -> str:
        return f"{self.runtime} {self.file} {self.kernels}"


def file_of(precision: str) -> str:
    """The precision of the file that `precision` is computed from: bf16 from fp32's, whose fingerprint it shares."""
    return "fp32" if precision == "bf16" else precision


def ways_of(file: str, *, amx: bool, openvino: bool) -> list[Way]:
    """Every way to run a file of that precision on this machine, the plainest first.

    amx: the processor has `amx_int8`; openvino: its provider is installed.
    """
    found = [Way("onnxruntime", file)]
    if file == "int8" and amx:
        found.append(Way("onnxruntime", file, "amx"))
    if openvino and file in ("fp32", "int8"):
        found += [Way("openvino", file, kernels) for kernels in ("f32", "bf16")]
    return found
