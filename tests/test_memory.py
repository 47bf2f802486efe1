"""Memory: what brings more is refused before the kernel kills the process, and taken again when there is room."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from service.errors import Overloaded
from service.memory import MOST, Memory, Usage, is_high, of_container
from tests.conftest import StartServer
from tests.harness.pictures import jpeg

MB = 2**20


class Dial:
    """A meter and a clock that a test sets."""

    def __init__(self) -> None:
        self.used, self.now = 0, 0.0

    def __call__(self) -> Usage:
        return Usage(self.used * MB, 1000 * MB)


def test_writes_are_refused_near_the_limit_and_taken_again_with_room_to_spare() -> None:
    dial = Dial()
    memory = Memory(dial, clock=lambda: dial.now)
    seen = []
    for used in (0, 899, 901, 890, 880, 874, 899, 901, 1200):
        dial.used, dial.now = used, dial.now + 1
        seen.append(memory.high)
    assert seen == [False, False, True, True, True, False, False, True, True]
    with pytest.raises(Overloaded, match=r"Memory is nearly full \(1,200 of 1,000 MB\)") as caught:
        memory.check()
    assert caught.value.retry_after >= 1 and "\n" not in str(caught.value) and memory.refused == 1


def test_bulk_work_waits_for_room() -> None:
    dial = Dial()
    dial.used = 990

    async def run() -> None:
        memory = Memory(dial)
        waiting = asyncio.create_task(memory.room())
        done, _ = await asyncio.wait([waiting], timeout=0.3)
        assert not done
        dial.used = 10
        await asyncio.wait_for(waiting, 30)

    asyncio.run(run())


def test_of_much_memory_a_bounded_part_is_kept_free() -> None:
    limit = 2**40
    assert not is_high(Usage(limit - MOST, limit), before=False) and is_high(
        Usage(limit - MOST + 1, limit), before=False
    )
    assert not is_high(None, before=True) and not is_high(Usage(5, 0), before=True)


@pytest.mark.parametrize(
    ("files", "membership", "usage"),
    [
        ({"memory.max": "1000", "memory.current": "700"}, "0::/\n", Usage(400, 1000)),
        ({"memory.max": "max", "memory.current": "700"}, "0::/\n", None),
        ({"a/memory.max": "5000", "a/memory.current": "4000", "memory.max": "max"}, "0::/a/b\n", Usage(3700, 5000)),
        (
            {"memory/x/memory.limit_in_bytes": "2000", "memory/x/memory.usage_in_bytes": "900"},
            "4:memory:/x\n",
            Usage(600, 2000),
        ),
        (
            {"memory/x/memory.limit_in_bytes": "9223372036854771712", "memory/x/memory.usage_in_bytes": "900"},
            "4:memory:/x\n",
            None,
        ),
        ({"memory.max": "rubbish", "memory.current": "1"}, "0::/\n", None),
        ({}, "", None),
    ],
)
def test_a_containers_limit_counts_and_pages_of_files_do_not(
    tmp_path: Path, files: dict[str, str], membership: str, usage: Usage | None
) -> None:
    for name, text in files.items():
        path = tmp_path / "fs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.with_name("memory.stat").write_text("anon 400\ninactive_file 100\nactive_file 200\n")
    (tmp_path / "cgroup").write_text(membership)
    assert of_container(tmp_path / "fs", tmp_path / "cgroup") == usage


def test_the_machine_and_the_process_say_what_they_take() -> None:
    """In a process of its own: one that has run other tests takes memory from what they left."""
    told = """if True:
        import mmap
        from service.memory import meter, of_machine, of_processes
        MB = 2**20
        machine, here = of_machine(), of_processes(MB, [])
        assert machine is not None and 0 < machine.used < machine.limit
        held = mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        for _ in range(64):
            held.write(b"x" * MB)
        taken = of_processes(MB, []).used - here.used
        assert 32 * MB < taken < 96 * MB, taken
        assert meter(0, list)() is not None
        limited = meter(5, list)()
        assert limited.limit == 5 and abs(limited.used - of_processes(5, []).used) < 8 * MB
    """
    subprocess.run([sys.executable, "-c", told], check=True, timeout=120)


@pytest.mark.slow
def test_a_service_near_its_limit_refuses_writes_and_answers_the_rest(server: StartServer) -> None:
    running = server(env={"LOOKALIKE_MODEL": "histogram"})
    running.put("default", "a", jpeg(1)).raise_for_status()
    running.put("default", "b", jpeg(2)).raise_for_status()
    running.stop()
    running.env["LOOKALIKE_MAX_MEMORY_BYTES"] = str(16 * MB)
    running.start()
    for answer in (
        running.put("default", "c", jpeg(3)),
        running.client.patch("/v1/collections/default/items/a", json={"metadata": {"n": 1}}),
        running.client.post("/v1/collections/default/imports", files={"file": ("a.zip", b"PK")}),
    ):
        assert answer.status_code == 503 and answer.json()["type"] == "/problems/overloaded"
        assert "Memory is nearly full" in answer.json()["detail"] and int(answer.headers["retry-after"]) >= 1
    assert running.client.get("/readyz").status_code == 200
    assert running.search("default", jpeg(1)).json()["results"][0]["id"] == "a"
    assert running.client.delete("/v1/collections/default/items/b").status_code == 204
    assert running.client.get("/v1/collections/default").json()["count"] == 1
    text = running.client.get("/metrics").text
    assert "lookalike_memory_refused_total 3.0" in text and "lookalike_memory_limit_bytes 1.6777216e+07" in text
    assert running.log().count("Memory is nearly full") == 1
