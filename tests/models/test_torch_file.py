"""Files in torch's first format: read by their strides, and whatever else they ask for is refused, not executed."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.backbones.efficientnet_lite.torch_file import read_state_dict
from models.errors import WeightsCorrupt

HEAD = (
    pickle.dumps(0x1950A86A20F9469CFC6C, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps({"protocol_version": 1001, "little_endian": True, "type_sizes": {}}, 2)
)


def text(value: str) -> bytes:
    data = value.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def storage(key: str, count: int, type_: str = "FloatStorage", view: bytes = b"N") -> bytes:
    """A persistent id as torch writes it."""
    parts = [text("storage"), f"ctorch\n{type_}\n".encode(), text(key), text("cpu"), number(count), view]
    return b"(" + b"".join(parts) + b"tQ"


def tensor(stored: bytes, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> bytes:
    arguments = stored + number(offset) + numbers(shape) + numbers(strides) + b"\x89" + b"N"
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tR"


def state(entries: dict[str, bytes], attributes: bytes = b"") -> bytes:
    """An OrderedDict of already pickled values, with what `BUILD` sets on it."""
    items = b"".join(text(name) + value for name, value in entries.items())
    return b"\x80\x02ccollections\nOrderedDict\n)R(" + items + b"u" + attributes + b"."


def whole(body: bytes, storages: dict[str, np.ndarray], head: bytes = HEAD) -> bytes:
    values = b"".join(struct.pack("<q", each.size) + each.tobytes() for each in storages.values())
    return head + body + pickle.dumps(list(storages), 2) + values


def sound() -> bytes:
    values = np.arange(24, dtype="<f4")
    return whole(state({"w": tensor(storage("7", 24), 0, (2, 3, 4), (12, 4, 1))}), {"7": values})


@given(st.permutations(range(4)), st.lists(st.integers(1, 4), min_size=4, max_size=4), st.integers(0, 5))
def test_strides_and_offsets_are_followed(axes: list[int], sizes: list[int], offset: int) -> None:
    """A transposed view of a part of a larger storage gives the numbers that the view shows."""
    values = np.arange(offset + int(np.prod(sizes)) + 3, dtype="<f4")
    view = values[offset : offset + int(np.prod(sizes))].reshape(sizes).transpose(axes)
    strides = tuple(stride // 4 for stride in view.strides)
    body = state({"w": tensor(storage("a", values.size), offset, view.shape, strides)})
    np.testing.assert_array_equal(read_state_dict(whole(body, {"a": values}))["w"], view)


def test_tensors_share_storages_and_counters_are_whole_numbers() -> None:
    """Two views of one storage, a scalar, an empty tensor, repeated rows (stride 0), and int64."""
    floats, longs = np.arange(6, dtype="<f4"), np.array([41], "<i8")
    shared = storage("f", 6)
    entries = {
        "first": tensor(shared, 0, (3,), (1,)),
        "second": tensor(shared, 1, (2, 2), (2, 1)),
        "rows": tensor(shared, 4, (2, 2), (0, 1)),
        "none": tensor(shared, 0, (0, 5), (5, 1)),
        "count": tensor(storage("l", 1, "LongStorage"), 0, (), ()),
    }
    attributes = b"}" + text("_metadata") + text("anything") + b"sb"
    found = read_state_dict(whole(state(entries, attributes), {"f": floats, "l": longs}))
    assert found["first"].tolist() == [0, 1, 2]
    assert found["second"].tolist() == [[1, 2], [3, 4]]
    assert found["rows"].tolist() == [[4, 5], [4, 5]]
    assert found["none"].shape == (0, 5)
    assert found["count"].dtype == np.int64
    assert found["count"].item() == 41


VALUES = {"7": np.arange(24, dtype="<f4")}
WRONG_TENSORS = {
    "past the end": (0, (25,), (1,)),
    "by its offset": (20, (5,), (1,)),
    "by its strides": (0, (5, 5), (5, 1)),
    "before the start": (-1, (2,), (1,)),
    "backwards": (5, (2,), (-1,)),
    "negative size": (0, (-1,), (1,)),
    "shape without strides": (0, (2, 2), (1,)),
    "enormous": (0, (2**30, 2**30, 2**30), (0, 0, 0)),
    "nine axes": (0, (1,) * 9, (1,) * 9),
}


@pytest.mark.parametrize("wrong", WRONG_TENSORS.values(), ids=WRONG_TENSORS)
def test_tensors_that_leave_their_storage_are_refused(wrong: tuple[int, Any, Any]) -> None:
    """No view reads beside its storage or takes more memory than it."""
    with pytest.raises(WeightsCorrupt, match="no state dict"):
        read_state_dict(whole(state({"w": tensor(storage("7", 24), *wrong)}), VALUES))


def call(name: str, argument: str) -> bytes:
    return f"c{name}\n(".encode() + text(argument) + b"tR"


ATTACKS: dict[str, Callable[[str], bytes]] = {
    "os.system": lambda mark: call("os\nsystem", f"touch {mark}"),
    "posix.system": lambda mark: call("posix\nsystem", f"touch {mark}"),
    "builtins.eval": lambda mark: call("builtins\neval", f"open({mark!r}, 'w')"),
    "builtins.open": lambda mark: b"cbuiltins\nopen\n(" + text(mark) + text("w") + b"tR",
    "subprocess.Popen": lambda mark: b"csubprocess\nPopen\n((" + text("touch") + text(mark) + b"ltR",
    "INST": lambda mark: b"(" + text(f"touch {mark}") + b"ios\nsystem\n",
    "OBJ": lambda mark: b"(cos\nsystem\n" + text(f"touch {mark}") + b"o",
    "STACK_GLOBAL": lambda mark: text("os") + text("system") + b"\x93(" + text(f"touch {mark}") + b"tR",
    "dotted name": lambda mark: call("torch._utils\n_rebuild_tensor_v2.__globals__", mark),
    "getattr": lambda mark: b"cbuiltins\ngetattr\n(" + text("x") + text("y") + b"tR",
    "numpy": lambda mark: call("numpy.core.multiarray\nscalar", mark),
    "another torch function": lambda mark: call("torch\nload", mark),
    "another storage": lambda mark: b"ctorch\nByteStorage\n",
    "a class to build": lambda mark: b"ccollections\nOrderedDict\n)\x81}" + text("x") + text("y") + b"sb",
    "attributes on a function": lambda mark: b"ctorch._utils\n_rebuild_tensor_v2\n}" + text("x") + text("y") + b"sb",
    "a call of a name": lambda mark: b"ctorch\nFloatStorage\n)R",
    "a call of a storage": lambda mark: storage("7", 24) + b")R",
    "a string for a tensor": lambda mark: text("w"),
    "a name of two lines": lambda mark: text("o\ns") + text("sys\ntem") + b"\x93",
    "a number for a tensor": lambda mark: number(3),
    "a storage for a tensor": lambda mark: storage("7", 24),
    "a view of a storage": lambda mark: tensor(storage("7", 24, view=text("v")), 0, (1,), (1,)),
    "tensors of tensors": lambda mark: tensor(tensor(storage("7", 24), 0, (1,), (1,)), 0, (1,), (1,)),
    "an unknown storage": lambda mark: tensor(storage("8", 24), 0, (1,), (1,)),
    "another size than stored": lambda mark: tensor(storage("7", 23), 0, (1,), (1,)),
    "a negative size": lambda mark: tensor(storage("7", -1), 0, (0,), (1,)),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_file_executes_nothing(attack: str, tmp_path: Path) -> None:
    """Whatever a pickle asks for beside a state dict is refused before it happens."""
    mark = tmp_path / "mark"
    with pytest.raises(WeightsCorrupt, match="no state dict") as caught:
        read_state_dict(whole(state({"w": ATTACKS[attack](str(mark))}), VALUES))
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    assert not list(tmp_path.iterdir())


OTHER = {
    "nothing": b"",
    "a zip archive": b"PK\x03\x04" + bytes(100),
    "another number": pickle.dumps(1) + sound(),
    "another version": HEAD.replace(pickle.dumps(1001, 2), pickle.dumps(1002, 2), 1) + sound()[len(HEAD) :],
    "big-endian": HEAD.replace(b"\x88", b"\x89") + sound()[len(HEAD) :],
    "a list for the dict": whole(pickle.dumps([], 2), {}),
    "a plain dict": whole(pickle.dumps({}, 2), {}),
    "more behind it": sound() + b"\0",
    "half of it": sound()[: len(sound()) // 2],
}


@pytest.mark.parametrize("data", OTHER.values(), ids=OTHER)
def test_other_files_are_one_line(data: bytes) -> None:
    with pytest.raises(WeightsCorrupt, match="no state dict") as caught:
        read_state_dict(data)
    assert "\n" not in str(caught.value)


@given(st.data())
def test_damage_raises_nothing_else(data: st.DataObject) -> None:
    """Cut anywhere, or with any byte changed, a file reads or is refused."""
    file = bytearray(sound())
    if data.draw(st.booleans()):
        del file[data.draw(st.integers(0, len(file) - 1)) :]
    else:
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        found = read_state_dict(bytes(file))
    except WeightsCorrupt as error:
        assert "\n" not in str(error)
    else:
        assert all(isinstance(each, np.ndarray) for each in found.values())


def test_torch_itself_writes_such_files(tmp_path: Path) -> None:
    """The same numbers as torch's own reader, of tensors that lie transposed in memory."""
    torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")
    path = tmp_path / "weights.pth"
    kernel = torch.arange(2 * 3 * 5 * 5, dtype=torch.float32).reshape(5, 5, 3, 2).permute(3, 2, 0, 1)
    module = torch.nn.Conv2d(3, 2, 5)
    module.weight = torch.nn.Parameter(kernel, requires_grad=False)
    torch.save(module.state_dict(), path, _use_new_zipfile_serialization=False)
    found = read_state_dict(path.read_bytes())
    assert found.keys() == {"weight", "bias"}
    np.testing.assert_array_equal(found["weight"], kernel.numpy())
