"""The processor, as far as what it computes fast decides which precision to use."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# x86: VNNI and AMX; Arm: dot product and int8 matrices.
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def resolve_precision(precision: str, device: str) -> str:
    """ "auto" → what new collections should use on this machine; anything else is returned as it is.

    fp16 on a GPU; int8 where the processor multiplies int8 in one instruction (elsewhere it is slower, and on old
    kernels it saturates); fp32 on all others.
    """
    if precision != "auto":
        return precision
    if device == "cuda" or (device == "auto" and has_cuda()):
        return "fp16"
    return "int8" if multiplies_int8() else "fp32"


def multiplies_int8(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor has integer dot products. False where it is not known (no Linux)."""
    return not _INT8.isdisjoint(flags(cpuinfo))


def flags(cpuinfo: Path = _CPUINFO) -> frozenset[str]:
    """What the first processor says that it can, in Linux' words; none where it is not known."""
    return frozenset(_first(cpuinfo, "flags", "Features").split())


def processor_model(cpuinfo: Path = _CPUINFO) -> str:
    """Names the kind of processor: of two machines with the same name and flags, the same way is the fastest."""
    name = _first(cpuinfo, "model name", "CPU part") or platform.processor() or "unknown"
    stepping = "-".join(_first(cpuinfo, key) for key in ("cpu family", "model", "stepping"))
    known = hashlib.sha256(" ".join(sorted(flags(cpuinfo))).encode()).hexdigest()[:8]
    return f"{platform.machine()} {name.strip()} {stepping} {known}"


def _first(cpuinfo: Path, *keys: str) -> str:
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in pairs if key.strip() in keys), "")


def has_cuda() -> bool:
    """Whether the installed onnxruntime has CUDA and a device answers it; a session may still fail."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and any(Path("/dev").glob("nvidia[0-9]*"))
