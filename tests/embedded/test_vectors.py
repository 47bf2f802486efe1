"""The vector file gives back what was appended, after a crash too, and never a row whose bytes have changed."""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from index.embedded.ann.files.mapped_rows import MappedRows
from index.embedded.ann.files.vector_file import VectorFile
from index.embedded.live.upkeep.warm import spare_memory
from index.errors import CacheUnusable
from tests.harness.soak import examples

DIM = 64
PRINT = "histogram-1"


def unit(count: int, seed: int = 0, dim: int = DIM) -> np.ndarray:
    rows = np.random.default_rng(seed).standard_normal((count, dim)).astype(np.float32)
    unit_rows: np.ndarray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit_rows


def filled(directory: Path, count: int = 300) -> np.ndarray:
    """A closed file of `count` rows with the keys 1…count; its vectors."""
    vectors = unit(count)
    with VectorFile.create(directory, dim=DIM, fingerprint=PRINT) as file:
        file.append(np.arange(1, count + 1), vectors)
    return vectors


def reopened(directory: Path) -> VectorFile:
    return VectorFile.open(directory, dim=DIM, fingerprint=PRINT)


def damage(path: Path, offset: int) -> None:
    """Flips one bit; a negative offset counts from the end."""
    content = bytearray(path.read_bytes())
    content[offset] ^= 4
    path.write_bytes(content)


def test_rows_come_back_as_float16_of_what_was_appended(tmp_path: Path) -> None:
    """A row read after reopening equals the appended vector rounded to float16, and keys lead to rows."""
    vectors = filled(tmp_path / "v")
    with reopened(tmp_path / "v") as file:
        assert len(file) == 300
        assert file.last_key == 300
        np.testing.assert_array_equal(file.read([0, 299, 7]), vectors[[0, 299, 7]].astype(np.float16))
        np.testing.assert_array_equal(file.find([300, 1, 999, 0]), [299, 0, -1, -1])


def test_scores_stay_within_the_contract(tmp_path: Path) -> None:
    """A score differs from the float64 cosine of the vectors as given by less than 1e-4, near ±1 and at 2048 too."""
    vectors = unit(2_000, dim=2048)
    noise = unit(2_000, seed=1, dim=2048)
    vectors[1_000:] = vectors[0] + np.linspace(0, 2, 1_000, dtype=np.float32)[:, None] * noise[1_000:]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[1] = -vectors[0]
    with VectorFile.create(tmp_path / "v", dim=2048, fingerprint=PRINT) as file:
        file.append(np.arange(1, 2_001), vectors)
        exact = vectors.astype(np.float64)
        for query in (0, 5, 1_500):
            expected = exact @ exact[query] / np.linalg.norm(exact, axis=1) / np.linalg.norm(exact[query])
            assert np.abs(file.score(vectors[query], np.arange(2_000)) - expected).max() < 1e-4


def test_an_empty_file_answers(tmp_path: Path) -> None:
    """Nothing appended: no rows, no keys, nothing found, and the same after reopening."""
    VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT).close()
    with reopened(tmp_path / "v") as file:
        assert (len(file), file.last_key, list(file.find([1])), list(file.blocks())) == (0, -1, [-1], [])
        assert file.score(unit(1)[0], np.empty(0, np.int64)).shape == (0,)


def test_closing_leaves_no_unused_space(tmp_path: Path) -> None:
    """The sparse room for growth is given back on close."""
    filled(tmp_path / "v", 10)
    assert (tmp_path / "v" / "rows").stat().st_size == 4096 + 10 * DIM * 2


@pytest.mark.parametrize(
    "keys",
    [[1, 2, 2], [3, 2, 4], [0, 1, 2], [-1, 1, 2]],
    ids=["repeated", "falling", "zero", "negative"],
)
def test_keys_out_of_order_are_refused(tmp_path: Path, keys: list[int]) -> None:
    """Keys must rise, or they could not be found by bisection; a refused append leaves nothing behind."""
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        with pytest.raises(ValueError, match="increasing"):
            file.append(keys, unit(3))
        assert len(file) == 0


def test_a_key_below_the_last_one_is_refused(tmp_path: Path) -> None:
    """The rule holds across appends as well."""
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        file.append([5], unit(1))
        with pytest.raises(ValueError, match="above the last"):
            file.append([5], unit(1))


@pytest.mark.parametrize(("part", "offset"), [("rows", -1), ("rows", 4096), ("keys", -8), ("checks", 0)])
def test_damage_to_a_row_is_noticed_when_it_is_used(tmp_path: Path, part: str, offset: int) -> None:
    """One flipped bit in a vector, a key or a checksum makes use of that row an error, not a wrong answer."""
    filled(tmp_path / "v")
    damage(tmp_path / "v" / part, offset)
    with pytest.raises(CacheUnusable), reopened(tmp_path / "v") as file:
        file.score(unit(1)[0], np.arange(len(file)))


def test_damage_elsewhere_does_not_stop_good_rows(tmp_path: Path) -> None:
    """Rows are checked one by one: a bad one does not take its neighbours with it, and `verify` finds it."""
    vectors = filled(tmp_path / "v")
    damage(tmp_path / "v" / "rows", -1)
    with reopened(tmp_path / "v") as file:
        np.testing.assert_array_equal(file.read([298]), vectors[[298]].astype(np.float16))
        with pytest.raises(CacheUnusable, match="row 299"):
            file.verify()


def test_verify_rechecks_rows_that_were_right_before(tmp_path: Path) -> None:
    """`verify` trusts no earlier check: damage that comes after a good read is found."""
    filled(tmp_path / "v")
    with reopened(tmp_path / "v") as file:
        file.verify()
        with (tmp_path / "v" / "rows").open("r+b") as raw:
            raw.seek(4096)
            raw.write(b"\xff\xff")
        with pytest.raises(CacheUnusable, match="row 0"):
            file.verify()


@pytest.mark.parametrize("offset", [0, 8, 12, 16, 30, 157])
def test_damage_to_the_header_is_noticed_on_opening(tmp_path: Path, offset: int) -> None:
    """Magic, version, dimension, count, fingerprint and checksum of the header are all covered."""
    filled(tmp_path / "v")
    damage(tmp_path / "v" / "rows", offset)
    with pytest.raises(CacheUnusable):
        reopened(tmp_path / "v")


@pytest.mark.parametrize("part", ["rows", "keys", "checks"])
@pytest.mark.parametrize("how", ["missing", "shorter"])
def test_a_lost_part_is_noticed_on_opening(tmp_path: Path, part: str, how: str) -> None:
    """Rows that were on disk and are no longer there make the file unusable."""
    filled(tmp_path / "v")
    path = tmp_path / "v" / part
    if how == "missing":
        path.unlink()
    else:
        os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(CacheUnusable):
        reopened(tmp_path / "v")


@pytest.mark.parametrize(("dim", "name"), [(DIM, "another-model"), (DIM * 2, PRINT)])
def test_a_file_of_another_model_is_refused(tmp_path: Path, dim: int, name: str) -> None:
    """Fingerprint and dimension must match what the collection expects."""
    filled(tmp_path / "v")
    with pytest.raises(CacheUnusable, match="another model"):
        VectorFile.open(tmp_path / "v", dim=dim, fingerprint=name)


def crashed_copy(directory: Path, into: Path) -> Path:
    """What a power cut would leave of an open file: its bytes as they are, unused room included."""
    into.mkdir()
    for part in ("rows", "keys", "checks"):
        (into / part).write_bytes((directory / part).read_bytes())
    return into


def test_rows_after_the_last_sync_survive_a_crash_when_whole(tmp_path: Path) -> None:
    """Without close, every row whose bytes reached the disk is there again, and appending goes on after it."""
    vectors = unit(300)
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        file.append(np.arange(1, 101), vectors[:100])
        file.sync()
        file.append(np.arange(101, 301), vectors[100:])
        copy = crashed_copy(tmp_path / "v", tmp_path / "copy")
    with reopened(copy) as file:
        assert file.last_key == 300
        file.append([301], unit(1))
        np.testing.assert_array_equal(file.read(np.arange(300)), vectors.astype(np.float16))


@pytest.mark.parametrize("part", ["rows", "keys", "checks"])
def test_a_torn_tail_is_cut_on_opening(tmp_path: Path, part: str) -> None:
    """A row behind the last sync that is not whole ends the file there; rows before it stay, the ones after it go."""
    vectors = unit(300)
    size = {"rows": DIM * 2, "keys": 8, "checks": 4}[part]
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:
        file.append(np.arange(1, 101), vectors[:100])
        file.sync()
        file.append(np.arange(101, 301), vectors[100:])
        copy = crashed_copy(tmp_path / "v", tmp_path / "copy")
    damage(copy / part, (4096 if part == "rows" else 0) + 200 * size)
    for _ in range(2):  # what was cut stays cut
        with reopened(copy) as file:
            assert file.last_key == 200
            file.verify()
    with reopened(copy) as file:
        assert file.append([201, 202], unit(2)) == 200


def test_truncated_rows_stay_gone(tmp_path: Path) -> None:
    """After `truncate` neither a crash nor a reopening brings the rows back."""
    filled(tmp_path / "v")
    with reopened(tmp_path / "v") as file:
        file.truncate(120)
        copy = crashed_copy(tmp_path / "v", tmp_path / "copy")
        assert file.last_key == 120
    for directory in (tmp_path / "v", copy):
        with reopened(directory) as file:
            assert (len(file), file.last_key) == (120, 120)


def test_readers_see_whole_rows_while_one_thread_appends(tmp_path: Path) -> None:
    """Growth remaps the files under readers; every row they see is whole and belongs to its key."""
    vectors = unit(20_000)
    half = vectors.astype(np.float16)
    wrong: list[int] = []
    done = threading.Event()
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint=PRINT) as file:

        def read(seed: int) -> None:
            random = np.random.default_rng(seed)
            while not done.is_set():
                count = len(file)
                if count:
                    rows = random.integers(0, count, 50)
                    keys = file.keys[rows]
                    if not (np.array_equal(file.read(rows), half[keys - 1]) and np.array_equal(file.find(keys), rows)):
                        wrong.append(count)

        readers = [threading.Thread(target=read, args=(seed,)) for seed in range(2)]
        for reader in readers:
            reader.start()
        for start in range(0, 20_000, 125):
            file.append(np.arange(start + 1, start + 126), vectors[start : start + 125])
        done.set()
        for reader in readers:
            reader.join()
        assert len(file) == 20_000
        assert not wrong


def test_a_full_disk_leaves_the_rows_as_they_were(tmp_path: Path) -> None:
    """An append that the disk refuses raises OSError, and the file goes on with what it had."""
    resource = pytest.importorskip("resource")
    vectors = filled(tmp_path / "v", 1_000)
    with reopened(tmp_path / "v") as file:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        with ignored_limit_signal():
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096 + 1_000 * DIM * 2, hard))
            try:
                with pytest.raises(OSError, match="large"):
                    file.append([1_001, 1_002], unit(2))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert file.last_key == 1_000
        file.append([1_001, 1_002], vectors[:2])
        file.verify()
    with reopened(tmp_path / "v") as file:
        assert file.last_key == 1_002


class ignored_limit_signal:
    """The kernel also sends SIGXFSZ, which would end the process."""

    def __enter__(self) -> None:
        import signal

        self.before: Callable[..., object] | int | None = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def __exit__(self, *_: object) -> None:
        import signal

        signal.signal(signal.SIGXFSZ, self.before)


@settings(deadline=None, max_examples=examples(40))
@given(
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("append"), st.integers(0, 40)),
            st.tuples(st.just("truncate"), st.integers(0, 60)),
            st.tuples(st.sampled_from(["reopen", "sync"]), st.just(0)),
        ),
        max_size=12,
    )
)
def test_any_order_of_operations_equals_a_list(steps: list[tuple[str, int]]) -> None:
    """Whatever is appended, truncated, synced and reopened in any order, the file equals a plain list of rows."""
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "v"
        file = VectorFile.create(directory, dim=DIM, fingerprint=PRINT)
        keys: list[int] = []
        rows = np.empty((0, DIM), np.float16)
        for turn, (step, number) in enumerate(steps):
            if step == "append":
                start = (keys[-1] if keys else 0) + 1 + turn % 3
                new = unit(number, seed=turn)
                assert file.append(np.arange(start, start + 2 * number, 2), new) == len(keys)
                keys += range(start, start + 2 * number, 2)
                rows = np.concatenate([rows, new.astype(np.float16)])
            elif step == "truncate":
                file.truncate(number)
                keys, rows = keys[:number], rows[:number]
            elif step == "sync":
                file.sync()
            else:
                file.close()
                file = reopened(directory)
            assert file.keys.tolist() == keys
            np.testing.assert_array_equal(file.read(np.arange(len(keys))), rows)
            assert all(file.find([key])[0] == row for row, key in enumerate(keys))
        file.close()


def test_rows_are_read_ahead_where_they_fit_and_until_told_to_stop(tmp_path: Path) -> None:
    """All of them, or none where memory would not hold them; a file that is gone is no error."""
    with VectorFile.create(tmp_path / "v", dim=DIM, fingerprint="f") as file:
        file.append(np.arange(1, 50_001), np.ones((50_000, DIM), np.float16))
        size = 50_000 * DIM * 2
        asked = itertools.count()
        assert file.warm(room=size, stopped=lambda: next(asked) < 0) >= size
        assert next(asked) > 1
        assert file.warm(room=size - 1, stopped=lambda: False) == 0
        assert file.warm(room=size, stopped=lambda: True) == 0
        (tmp_path / "v" / "rows").rename(tmp_path / "elsewhere")
        assert file.warm(room=size, stopped=lambda: False) == 0
        (tmp_path / "elsewhere").rename(tmp_path / "v" / "rows")


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice about files")
def test_rows_that_are_not_in_memory_are_asked_for_together(tmp_path: Path) -> None:
    """Scores are the same wherever rows came from; once asked for they come, and then nothing is asked for any more."""
    vectors, random = unit(2_000, dim=2048), np.random.default_rng(1)
    with VectorFile.create(tmp_path / "v", dim=2048, fingerprint=PRINT) as file:
        file.append(np.arange(1, 2_001), vectors)
    with (tmp_path / "v" / "rows").open("rb") as dropped:
        os.posix_fadvise(dropped.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # tmpfs keeps them: then none is absent
    with VectorFile.open(tmp_path / "v", dim=2048, fingerprint=PRINT) as file:
        for query in vectors[:20]:
            rows = random.permutation(2_000)[:200]
            np.testing.assert_allclose(file.score(query, rows), vectors[rows] @ query, atol=1e-4)
        np.testing.assert_allclose(file.scan(vectors[3], 0, 2_000), vectors @ vectors[3], atol=1e-4)
        mapped = MappedRows(tmp_path / "v", 2048)
        end = time.monotonic() + 60
        rows = np.arange(0, 2_000, 250)  # each of them is looked at
        while mapped.ask(rows) and time.monotonic() < end:
            time.sleep(0.01)
        assert not mapped.ask(rows)
        mapped.close()
        assert not mapped.ask(rows)


def test_spare_memory_is_told_by_the_system() -> None:
    assert 0 < spare_memory() < 2**50
