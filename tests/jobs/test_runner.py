"""Jobs on a real catalogue: they run, wait, end, are cancelled, and go on where a process has left them."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from index.errors import StorageFull
from index.open import open_catalogue
from index.types import Catalogue
from service.errors import Overloaded, ShuttingDown
from service.jobs.folders import FOLDER
from service.jobs.runner import Jobs
from service.jobs.state import Counts, Job, Trouble, claimed
from service.jobs.store import PIECE, JobNotFound, JobStore
from service.jobs.task import MAX_LINES, JobFailed, Task
from service.metrics import Metrics
from service.threads import Threads

Body = Callable[[Task], Awaitable[Mapping[str, Any] | None]]


def explained(error: Exception) -> Trouble | None:
    return Trouble("storage-full", str(error)) if isinstance(error, StorageFull) else None


class House:
    """A catalogue in a folder, and the runners that use it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.catalogue: Catalogue = open_catalogue(folder)
        self.metrics = Metrics()
        self.threads = Threads(2, self.metrics)

    def jobs(self, work: Body, *, folder: Path | None = None, **options: Any) -> Jobs:
        made = Jobs(self.catalogue.records, folder or self.folder, self.threads, Metrics(), **options)
        made.register("work", work, explained)
        return made


@asynccontextmanager
async def house(folder: Path) -> AsyncIterator[House]:
    opened = House(folder)
    try:
        yield opened
    finally:
        await opened.threads.close()
        opened.catalogue.close()


def run(folder: Path, story: Callable[[House], Awaitable[None]]) -> None:
    async def told() -> None:
        async with house(folder) as opened:
            await asyncio.wait_for(story(opened), 60)

    asyncio.run(told())


async def until_stopped(task: Task) -> None:
    await task.stop.wait()
    task.check()


def test_a_job_runs_and_its_result_is_kept(tmp_path: Path) -> None:
    """A result of several pieces too; the job says when it began and ended."""
    long = 'ä"\\\u0001' * PIECE

    async def work(task: Task) -> dict[str, Any]:
        task.progress(Counts(3, 1, 1, 1))
        task.note("well")
        task.keep({"at": 7})
        return {"asked": dict(task.job.request), "long": long}

    async def story(house: House) -> None:
        jobs = house.jobs(work)
        made = await jobs.submit("work", "shop", {"a": 1})
        assert made.state == "queued"
        job = await jobs.settled("shop", made.id, 30)
        assert (job.state, job.counts, job.note, job.saved) == ("done", Counts(3, 1, 1, 1), "well", {"at": 7})
        assert job.created_at <= (job.started_at or 0) <= (job.finished_at or 0)
        await jobs.close()
        again = house.jobs(work)  # from the disk
        assert await again.get("shop", made.id) == job
        assert json.loads(await again.result(job)) == {"asked": {"a": 1}, "long": long}
        assert [each.id for each in await again.all("shop")] == [made.id]
        with pytest.raises(JobNotFound):
            await again.get("other", made.id)

    run(tmp_path, story)


@pytest.mark.parametrize(
    ("error", "slug"),
    [
        (JobFailed("sync-refused", "too many"), "sync-refused"),
        (StorageFull("full"), "storage-full"),
        (KeyError(), "internal"),
    ],
)
def test_an_error_ends_its_job_alone(tmp_path: Path, error: Exception, slug: str) -> None:
    """With a reason; a bug's own words stay in the log."""

    async def work(task: Task) -> None:
        raise error

    async def story(house: House) -> None:
        jobs = house.jobs(work)
        for _ in range(2):
            made = await jobs.submit("work", "shop", {})
            job = await jobs.settled("shop", made.id, 30)
            assert job.state == "failed" and job.trouble is not None and job.trouble.slug == slug
        with pytest.raises(JobNotFound):
            await jobs.result(job)
        await jobs.close()

    run(tmp_path, story)


def test_jobs_beyond_the_limit_wait_and_too_many_are_refused(tmp_path: Path) -> None:
    """Two run, the third begins when one of them has ended; one collection's run one after the other."""
    ends: dict[str, asyncio.Event] = {}

    async def work(task: Task) -> None:
        await ends.setdefault(task.job.id, asyncio.Event()).wait()

    async def story(house: House) -> None:
        jobs = house.jobs(work, most_waiting=3)
        made = [await jobs.submit("work", name, {}) for name in ("a", "b", "c", "a", "d")]
        await asyncio.sleep(0.5)
        with pytest.raises(Overloaded):
            await jobs.submit("work", "e", {})
        assert list(ends) == [made[0].id, made[1].id]
        ends[made[1].id].set()
        await jobs.settled("b", made[1].id, 30)
        await asyncio.sleep(0.5)
        assert list(ends) == [made[0].id, made[1].id, made[2].id]
        ends[made[0].id].set()
        await jobs.settled("a", made[0].id, 30)
        await asyncio.sleep(0.5)
        assert list(ends)[3:] == [made[3].id]
        jobs.stop()
        with pytest.raises(ShuttingDown):
            await jobs.submit("work", "e", {})
        for each in ends.values():
            each.set()
        await jobs.close()

    run(tmp_path, story)


def test_a_job_is_cancelled_while_it_waits_and_while_it_runs(tmp_path: Path) -> None:
    """Both end as cancelled, their files go, and what has ended stays as it is."""

    async def story(house: House) -> None:
        jobs = house.jobs(until_stopped, at_once=1)
        folders = [tmp_path / "up" / name for name in "ab"]
        for folder in folders:
            folder.mkdir(parents=True)
            (folder / "file").write_text("x")
        first, second = [await jobs.submit("work", "shop", {}, files=folder) for folder in folders]
        kept = tmp_path / FOLDER
        assert {first.id, second.id} <= {each.name for each in kept.iterdir()}
        assert (await jobs.cancel("shop", second.id)).state == "cancelled"
        assert (await jobs.cancel("shop", first.id)).state == "cancelled"
        again = await jobs.cancel("shop", first.id)
        assert again.state == "cancelled" and again.finished_at is not None
        await jobs.close()
        assert [each.name for each in kept.iterdir()] == ["runner"]

    run(tmp_path, story)


def test_what_a_process_leaves_goes_on_in_the_next(tmp_path: Path) -> None:
    """Stopped in time or killed: the job is taken up, shows no less than before, keeps its files until the end."""
    lives: list[int] = []

    async def work(task: Task) -> dict[str, Any]:
        lives.append(int(task.saved.get("life", 0)))
        assert (task.folder / "file").read_text() == "x"
        task.keep({"life": lives[-1] + 1})
        if len(lives) == 3:
            task.progress(Counts(9, 9))
            return {}
        task.progress(Counts(9, 5))
        if len(lives) == 2:
            await asyncio.sleep(3600)  # deaf, so it is ended the hard way
        await until_stopped(task)
        return {}

    async def story(house: House) -> None:
        folder = tmp_path / "up"
        folder.mkdir()
        (folder / "file").write_text("x")
        one = house.jobs(work)
        made = await one.submit("work", "shop", {}, files=folder)
        await asyncio.sleep(1)
        await one.close()
        store = JobStore(house.catalogue.records)
        left = store.get("shop", made.id).job
        assert (left.state, left.counts.done, left.saved) == ("queued", 5, {"life": 1})
        two = house.jobs(work)
        await two.start()
        await asyncio.sleep(3.5)
        assert (await two.get("shop", made.id)).counts.done == 5
        await two.close()
        kept = store.get("shop", made.id)
        store.save(kept, claimed(kept.job, kept.job.runner, 0.0))  # as a kill leaves it: running, and nobody there
        three = house.jobs(work)
        await three.start()
        job = await three.settled("shop", made.id, 30)
        assert (job.state, job.counts) == ("done", Counts(9, 9))
        assert lives == [0, 1, 2]
        await three.close()
        assert not (tmp_path / FOLDER / made.id).exists()

    run(tmp_path, story)


def test_folders_that_no_job_has_are_removed_at_the_start(tmp_path: Path) -> None:
    """Those of jobs that have ended or were never begun; what has another name is not ours."""

    async def story(house: House) -> None:
        kept = tmp_path / FOLDER
        for name in (f"{1:012x}{2:012x}", "photos"):
            (kept / name).mkdir(parents=True)
        jobs = house.jobs(until_stopped)
        made = await jobs.submit("work", "shop", {})
        await jobs.start()
        await asyncio.sleep(0.3)
        assert {each.name for each in kept.iterdir()} == {"photos", "runner", made.id}
        await jobs.close()

    run(tmp_path, story)


def test_of_two_runners_one_gets_a_job(tmp_path: Path) -> None:
    """Beside others only what waits is taken, by whoever is quicker; what one of them runs another may cancel."""
    ran: list[str] = []

    async def work(task: Task) -> None:
        ran.append(task.job.runner)
        await until_stopped(task)

    async def story(house: House) -> None:
        store = JobStore(house.catalogue.records)
        made = [Job(f"{number:024x}", "work", f"c{number}", {}, created_at=0.0) for number in range(8)]
        for job in made:
            store.create(job)
        both = [house.jobs(work, at_once=8, alone=False, folder=tmp_path / name) for name in "ab"]
        await asyncio.gather(*(each.start() for each in both))
        await asyncio.sleep(1)
        assert len(ran) == 8 and sum(len(each._tasks) for each in both) == 8
        for job in made:
            await both[0].cancel(job.collection, job.id)
        for job in made:
            assert (await both[0].settled(job.collection, job.id, 30)).state == "cancelled"
        for each in both:
            await each.close()

    run(tmp_path, story)


def test_a_collection_that_goes_takes_its_jobs_along(tmp_path: Path) -> None:
    """Running and waiting ones end; those of others do not."""

    async def story(house: House) -> None:
        jobs = house.jobs(until_stopped, at_once=2)
        gone = [await jobs.submit("work", "shop", {}) for _ in range(3)]
        other = await jobs.submit("work", "shop-2", {})
        await asyncio.sleep(0.3)
        await jobs.drop("shop", forget=True)
        assert await jobs.all("shop") == []
        for job in gone:
            with pytest.raises(JobNotFound):
                await jobs.get("shop", job.id)
        assert (await jobs.get("shop-2", other.id)).state == "running"
        await jobs.close()

    run(tmp_path, story)


def test_whoever_watches_sees_the_end(tmp_path: Path) -> None:
    """Every change that matters, None where nothing happens, and then the last one."""
    go = asyncio.Event()

    async def work(task: Task) -> None:
        task.progress(Counts(2, 1))
        await go.wait()
        task.progress(Counts(2, 2))

    async def story(house: House) -> None:
        jobs = house.jobs(work)
        made = await jobs.submit("work", "shop", {})
        seen: list[Job | None] = []
        async for job in jobs.watch("shop", made.id, pause=0.5):
            seen.append(job)
            if job is None:
                go.set()
        shown = [job for job in seen if job is not None]
        assert None in seen and shown[-1].state == "done" and shown[-1].counts == Counts(2, 2)
        assert [job.changed_at for job in shown] == sorted(job.changed_at for job in shown)
        await jobs.close()

    run(tmp_path, story)


def test_lines_are_kept_up_to_a_number_and_the_last_says_that_there_were_more(tmp_path: Path) -> None:
    """While it runs and afterwards alike."""
    go = asyncio.Event()

    async def work(task: Task) -> None:
        for number in range(MAX_LINES + 5):
            task.line({"row": number, "reason": "x" * 100})
        await go.wait()

    async def story(house: House) -> None:
        jobs = house.jobs(work)
        made = await jobs.submit("work", "shop", {})
        await asyncio.sleep(0.5)
        running = await jobs.lines(await jobs.get("shop", made.id))
        go.set()
        job = await jobs.settled("shop", made.id, 30)
        await jobs.close()
        text = await house.jobs(work).lines(job)
        assert text == running
        lines = [json.loads(line) for line in text.splitlines()]
        assert [line["row"] for line in lines] == [*range(MAX_LINES), None] and "5 more" in lines[-1]["detail"]

    run(tmp_path, story)


def test_a_missing_folder_is_no_reason_to_fail(tmp_path: Path) -> None:
    """A job without files has an empty one; where the folder of all jobs was removed, it is made again."""

    async def work(task: Task) -> dict[str, Any]:
        return {"files": [each.name for each in task.folder.iterdir()]}

    async def story(house: House) -> None:
        jobs = house.jobs(work)
        await jobs.start()
        shutil.rmtree(tmp_path / FOLDER)
        made = await jobs.submit("work", "shop", {})
        job = await jobs.settled("shop", made.id, 30)
        assert json.loads(await jobs.result(job)) == {"files": []}
        await jobs.close()

    run(tmp_path, story)
