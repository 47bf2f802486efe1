"""What this machine can compute, as far as it decides which model to use."""

from __future__ import annotations

from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# x86: VNNI and AMX; Arm: dot product and int8 matrices.
_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp", "i8mm"})


def multiplies_int8(cpuinfo: Path = _CPUINFO) -> bool:
    """Whether the processor has integer dot products. False where it cannot be told (no Linux)."""
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return not _INT8.isdisjoint(next(flags, "").split())


def has_cuda() -> bool:
    """Whether the installed onnxruntime has CUDA and a device answers it; a session may still fail."""
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers() and any(Path("/dev").glob("nvidia[0-9]*"))
