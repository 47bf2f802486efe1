"""A search through model and collection: made in the lane that embedded where it can be, and alike elsewhere."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from index.errors import InvalidVector, ItemNotFound
from index.filters import parse_filter
from index.items import Entry
from models.errors import UnsupportedImage
from service.metrics import Stopwatch
from service.runtime import DEFAULT, Runtime
from service.search.answer import Answer
from service.search.query import ByExamples, ById, ByPicture, ByVector, Example, Query
from service.settings import Settings
from tests.harness.pictures import jpeg

COUNT = 5
WithRuntime = Callable[[Callable[[Runtime], Awaitable[Any]]], None]


@pytest.fixture
def with_runtime(tmp_path: Path, model_dir: Path) -> WithRuntime:
    """Runs a coroutine over a service with one decoder, one lane and five pictures in `default`."""

    def run(body: Callable[[Runtime], Awaitable[Any]]) -> None:
        async def main() -> None:
            runtime = await Runtime.open(Settings(data_dir=tmp_path, model_dir=model_dir, threads=1))
            try:
                collection = runtime.collection(DEFAULT)
                for number in range(COUNT):
                    made = await runtime.pipeline.embed(jpeg(number), network=runtime.model, bulk=True)
                    entry = Entry(f"i{number}", made.vector, {"n": number}, made.media)
                    await runtime.write(collection.upsert, [entry], fingerprint=collection.fingerprint)
                await body(runtime)
            finally:
                await runtime.close()

        asyncio.run(asyncio.wait_for(main(), 120))

    return run


def search(runtime: Runtime, query: Query) -> Awaitable[Answer]:
    return runtime.search(runtime.collection(DEFAULT), query, watch=Stopwatch())


def decoders(runtime: Runtime, number: signal.Signals) -> None:
    for pid in runtime.pipeline.decoder.pids:
        os.kill(pid, number)


def told(answer: Answer) -> list[tuple[str, float]]:
    return [(match.item.id, match.score) for match in answer.matches]


def test_a_search_in_the_lane_and_one_beside_it_answer_alike(with_runtime: WithRuntime) -> None:
    """The first makes the vector and searches in its lane; the second finds it remembered; the third filters."""

    async def body(runtime: Runtime) -> None:
        query = Query(ByPicture(jpeg(70)), score_threshold=-1)
        first, second = await search(runtime, query), await search(runtime, query)
        assert first.took.embed > 0 and second.took.embed == 0
        everything = parse_filter({"must": [{"key": "n", "range": {"gte": 0}}]})
        third = await search(runtime, replace(query, by=ByPicture(jpeg(70), (0, 0, 1, 1)), filter=everything))
        assert told(first) == told(second) == told(third) and len(first.matches) == COUNT
        for took in (first.took, second.took, third.took):
            assert took.search > 0 and took.total >= took.decode + took.embed + took.search

    with_runtime(body)


def test_a_copy_of_an_item_is_like_it_with_a_score_of_one(with_runtime: WithRuntime) -> None:
    async def body(runtime: Runtime) -> None:
        collection = runtime.collection(DEFAULT)
        for number in range(COUNT):
            made = await runtime.pipeline.embed(jpeg(number), network=runtime.model)
            vector_alone = Entry(f"vector{number}", made.vector)
            copy = Entry(f"copy{number}", made.vector, {}, made.media)
            await runtime.write(collection.upsert, [copy, vector_alone], fingerprint=collection.fingerprint)
        for number in range(COUNT):
            found = await search(runtime, Query(ById(f"i{number}"), score_threshold=1))
            assert told(found)[0] == (f"copy{number}", 1.0) and found.matches[0].same
            alone = await search(runtime, Query(ById(f"vector{number}"), score_threshold=-1))
            assert not any(match.same for match in alone.matches)

    with_runtime(body)


def test_callers_with_one_picture_get_each_the_answer_to_their_own_question(with_runtime: WithRuntime) -> None:
    async def body(runtime: Runtime) -> None:
        decoders(runtime, signal.SIGSTOP)
        asked = [Query(ByPicture(jpeg(71)), limit=limit, score_threshold=-1) for limit in (1, 2, 3)]
        tasks = [asyncio.ensure_future(search(runtime, query)) for query in asked]
        await asyncio.sleep(0.1)
        decoders(runtime, signal.SIGCONT)
        answers = await asyncio.gather(*tasks)
        assert [len(answer.matches) for answer in answers] == [1, 2, 3]
        assert runtime.pipeline.batcher.embedded == COUNT + 1

    with_runtime(body)


def test_whoever_asks_first_and_leaves_takes_no_answer_with_them(with_runtime: WithRuntime) -> None:
    async def body(runtime: Runtime) -> None:
        decoders(runtime, signal.SIGSTOP)
        query = Query(ByPicture(jpeg(72)), score_threshold=-1)
        gone, stays = (asyncio.ensure_future(search(runtime, query)) for _ in range(2))
        await asyncio.sleep(0.1)
        gone.cancel()
        decoders(runtime, signal.SIGCONT)
        assert len((await stays).matches) == COUNT

    with_runtime(body)


@pytest.mark.parametrize(
    ("by", "error"),
    [
        (ByPicture(b"no picture"), UnsupportedImage),
        (ById("none"), ItemNotFound),
        (ByExamples([Example(ById("i0"))], [Example(ById("none"))]), ItemNotFound),
        (ByVector(np.ones(3, np.float32)), InvalidVector),
        (ByVector(np.zeros(2048, np.float32)), InvalidVector),
    ],
)
def test_what_cannot_be_looked_for_says_why(with_runtime: WithRuntime, by: Any, error: type[Exception]) -> None:
    async def body(runtime: Runtime) -> None:
        with pytest.raises(error):
            await search(runtime, Query(by))
        assert (await search(runtime, Query(ById("i0"), score_threshold=-1))).filtered_count == COUNT

    with_runtime(body)


def test_a_search_that_fails_in_the_lane_fails_alone(with_runtime: WithRuntime) -> None:
    """The collection goes while the picture is being made: its search fails, the lane and the vector are as before."""

    async def body(runtime: Runtime) -> None:
        collection, _ = runtime.create_collection("other")
        decoders(runtime, signal.SIGSTOP)
        query = Query(ByPicture(jpeg(73)), score_threshold=-1)
        lost = asyncio.ensure_future(runtime.search(collection, query, watch=Stopwatch()))
        await asyncio.sleep(0.1)
        found = asyncio.ensure_future(search(runtime, query))
        await asyncio.sleep(0.1)
        runtime.catalogue.drop("other")
        decoders(runtime, signal.SIGCONT)
        with pytest.raises(Exception, match="other"):
            await lost
        assert len((await found).matches) == COUNT and runtime.pipeline.batcher.restarts == 0

    with_runtime(body)
