"""The state dict in a file of torch's first format, read without torch and without executing anything of it.

Such a file is a row of pickles (a number, a version, facts of the machine, the dict, the storages' keys) and then each
storage's bytes. A pickle may ask for any function by name; here only the four names that a state dict consists of mean
something, and they build placeholders of ours.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from models.errors import WeightsCorrupt

# torch/serialization.py: MAGIC_NUMBER and PROTOCOL_VERSION of the legacy format.
_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_MOST_AXES = 8


class _Dict(dict[Any, Any]):
    """An OrderedDict of the file. What the pickle would set on the instance (`_metadata`) is dropped."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        pass


@dataclass(frozen=True, slots=True)
class _Storage:
    """key: its name in the file. type: numpy's. count: of its values."""

    key: str
    type: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides count values, not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Rebuild:
    """In place of `torch._utils._rebuild_tensor_v2`."""

    __slots__ = ()

    def __call__(self, storage: object, offset: object, shape: object, strides: object, *_rest: object) -> _Tensor:
        if not isinstance(storage, _Storage) or not isinstance(offset, int):
            raise pickle.UnpicklingError("a tensor has no storage")
        return _Tensor(storage, offset, _sizes(shape), _sizes(strides))


class _Unpickler(pickle.Unpickler):
    """Knows the names of a state dict and no other."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return _Dict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Rebuild()
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no state dict needs")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, type_, key, _place, count, view = pid
        if kind != "storage" or type_ not in _TYPES.values() or not isinstance(count, int) or view is not None:
            raise pickle.UnpicklingError("it holds something else than whole storages")
        return _Storage(str(key), type_, count)


def read_state_dict(data: bytes) -> dict[str, npt.NDArray[Any]]:
    """The tensors by name, float32 or int64, in C order. Raises WeightsCorrupt."""
    file = io.BytesIO(data)
    try:
        if _Unpickler(file).load() != _MAGIC or _Unpickler(file).load() != _VERSION:
            raise ValueError("it does not begin as one")
        if not _Unpickler(file).load()["little_endian"]:
            raise ValueError("its numbers are big-endian")
        state = _Unpickler(file).load()
        if not isinstance(state, _Dict) or not all(isinstance(each, _Tensor) for each in state.values()):
            raise ValueError("it holds something else than tensors by name")
        storages = _storages(file, _Unpickler(file).load(), {each.storage.key: each.storage for each in state.values()})
        return {str(name): _view(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}
    except Exception as error:  # a pickle that is none raises of everything: IndexError, AttributeError, MemoryError…
        reason = " ".join(str(error).split()) or type(error).__name__
        raise WeightsCorrupt(f"the file of weights is no state dict: {reason[:160]}") from error


def _storages(file: io.BytesIO, keys: Any, known: dict[str, _Storage]) -> dict[str, npt.NDArray[Any]]:
    """The values of each storage: a count of eight bytes, then that many values, in the order of `keys`."""
    found: dict[str, npt.NDArray[Any]] = {}
    for key in keys:
        storage = known[key]
        (count,) = struct.unpack("<q", file.read(8))
        if count != storage.count:
            raise ValueError("a storage has another size than its tensors")
        size = count * np.dtype(storage.type).itemsize
        values = file.read(size)
        if len(values) != size:
            raise ValueError("it is cut short")
        found[key] = np.frombuffer(values, storage.type)
    if file.read(1):
        raise ValueError("more follows its last storage")
    return found


def _view(tensor: _Tensor, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The tensor's values, gathered by its strides. Raises ValueError where they leave the storage."""
    shape, strides = tensor.shape, tensor.strides
    if len(shape) != len(strides) or len(shape) > _MOST_AXES or min((*shape, *strides, tensor.offset), default=0) < 0:
        raise ValueError("a tensor has no shape")
    last = tensor.offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    size = math.prod(list(shape))
    if size > len(values) or (size and last >= len(values)):
        raise ValueError("a tensor is larger than its storage")
    places = np.full(shape, tensor.offset, np.int64)
    for axis, (length, stride) in enumerate(zip(shape, strides, strict=True)):
        places += (np.arange(length) * stride).reshape([-1 if each == axis else 1 for each in range(len(shape))])
    return values[places]


def _sizes(value: object) -> tuple[int, ...]:
    if not isinstance(value, tuple) or not all(isinstance(each, int) for each in value):
        raise pickle.UnpicklingError("a tensor has no shape")
    return value
