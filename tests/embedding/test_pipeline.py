"""The one way to embed: who shares work with whom, what is remembered, and whose time ends when."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.errors import UnsupportedImage
from service.embedding.pipeline import Pipeline
from service.errors import DeadlinePassed
from service.runtime import Runtime
from service.settings import Settings
from tests.harness.pictures import jpeg


@pytest.fixture
def with_pipeline(tmp_path: Path, model_dir: Path) -> Callable[[Callable[[Pipeline], Awaitable[Any]]], None]:
    """Runs a coroutine over the pipeline of a service with as few decoders as there can be."""

    def run(body: Callable[[Pipeline], Awaitable[Any]]) -> None:
        async def main() -> None:
            runtime = await Runtime.open(Settings(data_dir=tmp_path, model_dir=model_dir, threads=1))
            try:
                await body(runtime.pipeline)
            finally:
                await runtime.close()

        asyncio.run(asyncio.wait_for(main(), 120))

    return run


WithPipeline = Callable[[Callable[[Pipeline], Awaitable[Any]]], None]


def test_a_joined_flight_that_runs_out_of_time_is_flown_again_for_whoever_has_some_left(
    with_pipeline: WithPipeline,
) -> None:
    async def body(pipeline: Pipeline) -> None:
        network = pipeline.networks.default
        pids = pipeline.decoder.pids
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        busy = [asyncio.create_task(pipeline.embed(jpeg(10 + pid), network=network)) for pid in pids]
        await asyncio.sleep(0.05)
        hurried = asyncio.create_task(pipeline.embed(jpeg(2), network=network, deadline=time.monotonic() + 0.2))
        await asyncio.sleep(0.05)
        patient = asyncio.create_task(pipeline.embed(jpeg(2), network=network, deadline=time.monotonic() + 100))
        with pytest.raises(DeadlinePassed):
            await hurried
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
        await asyncio.gather(*busy)
        assert (await patient).vector.shape == (network.narrow.dim,)
        assert pipeline.batcher.embedded == len(pids) + 1

    with_pipeline(body)


def test_repeats_are_embedded_once_and_bulk_work_leaves_the_memory_alone(with_pipeline: WithPipeline) -> None:
    async def body(pipeline: Pipeline) -> None:
        network = pipeline.networks.default
        first = await pipeline.embed(jpeg(1), network=network)
        whole = await pipeline.embed(jpeg(1), network=network, crop=(0.0, 0.0, 1.0, 1.0))
        assert whole is not first and whole.vector is first.vector and pipeline.batcher.embedded == 1
        shown = await pipeline.embed(jpeg(1), network=network, thumbnail=True)
        assert shown.vector is first.vector and shown.thumbnail and pipeline.batcher.embedded == 1
        together = await asyncio.gather(*(pipeline.embed(jpeg(2), network=network) for _ in range(4)))
        assert pipeline.batcher.embedded == 2 and len({id(each.vector) for each in together}) == 1
        bulk = await pipeline.embed(jpeg(3), network=network, bulk=True)
        again = await pipeline.embed(jpeg(3), network=network)
        assert pipeline.batcher.embedded == 4
        np.testing.assert_array_equal(bulk.vector, again.vector)
        part = await pipeline.embed(jpeg(1), network=network, crop=(0.0, 0.0, 0.5, 1.0))
        assert pipeline.batcher.embedded == 5 and not np.array_equal(part.vector, first.vector)
        with pytest.raises(ValueError, match="read-only"):
            first.vector[0] = 0

    with_pipeline(body)


def test_everybody_on_a_flight_that_fails_gets_an_exception_of_their_own(with_pipeline: WithPipeline) -> None:
    async def body(pipeline: Pipeline) -> None:
        network = pipeline.networks.default
        made = [pipeline.embed(b"no picture", network=network) for _ in range(3)]
        failures = await asyncio.gather(*made, return_exceptions=True)
        assert {type(each) for each in failures} == {UnsupportedImage}
        assert len({id(each) for each in failures}) == 3
        assert len({str(each) for each in failures}) == 1

    with_pipeline(body)
