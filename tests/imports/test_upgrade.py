"""Upgrading a collection to another model: everything comes along, nothing changes before, and worse is refused."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from index.errors import CollectionNotFound
from index.items import Entry
from index.open import open_catalogue
from index.types import Collection
from service.embedding.loaded import Model, built_model
from service.embedding.pipeline import digest
from service.imports.upgrades.comparison import compare
from service.imports.upgrades.upgrade import Upgrade, UpgradeRefused, discard, upgrade
from service.runtime import Runtime
from service.settings import Settings
from tests.conftest import StartServer
from tests.harness.catalogues import MODEL, entry, vector
from tests.harness.pictures import jpeg
from tests.harness.serving import clean_environment, command

LIGHT = "efficientnet-lite2"

Work = Callable[[Runtime, Model], Awaitable[None]]


def with_runtime(tmp_path: Path, models: Path, work: Work, *, keep_originals: bool = True) -> None:
    """Runs `work` on a service over ResNet50, beside which EfficientNet-Lite2 is built."""

    async def main() -> None:
        settings = Settings(data_dir=tmp_path / "data", model_dir=models, threads=1, keep_originals=keep_originals)
        runtime = await Runtime.open(settings)
        try:
            await work(runtime, built_model(settings, LIGHT))
        finally:
            await runtime.close()

    asyncio.run(main())


async def filled(runtime: Runtime, count: int = 6) -> Collection:
    """`shop` with pictures of two labels."""
    shop, _ = runtime.create_collection("shop")
    for number in range(count):
        await put(runtime, shop, number)
    return shop


async def put(runtime: Runtime, shop: Collection, number: int) -> None:
    data = jpeg(number)
    made = await runtime.pipeline.embed(data, network=runtime.model, thumbnail=True)
    metadata = {"label": "even" if number % 2 == 0 else "odd", "n": number}
    one = Entry(f"i{number}", made.vector, metadata, made.media, made.thumbnail, data, created_at=1000.0 + number)
    await runtime.write(shop.upsert, [one], fingerprint=shop.fingerprint)


async def upgraded(runtime: Runtime, model: Model, *, force: bool = False) -> Upgrade:
    return await upgrade(
        runtime.catalogue, "shop", model, pipeline=runtime.pipeline, threads=runtime.threads, force=force
    )


def test_everything_comes_along(tmp_path: Path, light_dir: Path) -> None:
    """Ids, metadata, age, thumbnails and uploads; searched under the new model at once, the old one beside it."""

    async def work(runtime: Runtime, model: Model) -> None:
        shop = await filled(runtime)
        before = {item.id: item for item in shop.scan().items}
        thumbnails = {id: shop.thumbnail(id) for id in before}
        shop.set_score_threshold(0.7)
        done = await upgraded(runtime, model, force=True)
        assert (done.replaced, done.kept, done.reason) == (True, "shop-before", None)
        assert (done.items, done.embedded, done.without, done.threshold) == (6, 6, 0, 0.7)
        assert done.compared.queries == done.compared.labelled == 6
        assert (shop.model, shop.fingerprint, shop.dim) == (model["model"], model["fingerprint"], 1280)
        after = {item.id: item for item in shop.scan().items}
        assert {id: replace(item, updated_at=0) for id, item in after.items()} == {
            id: replace(item, updated_at=0) for id, item in before.items()
        }
        assert {id: shop.thumbnail(id) for id in after} == thumbnails
        network = await runtime.pipeline.networks.of_collection(shop)
        found = await runtime.pipeline.embed(jpeg(3), network=network)
        (match,) = shop.search(found.vector, limit=1, sha256=await digest(jpeg(3))).matches
        assert (match.item.id, match.score) == ("i3", 1.0)
        kept = runtime.collection("shop-before")
        assert (kept.count(), kept.score_threshold, kept.dim) == (6, 0.7, 2048)
        assert discard(runtime.catalogue, "shop") == ["shop-before"]
        assert runtime.catalogue.names() == ["default", "shop"]
        assert runtime.catalogue.original(await digest(jpeg(3))) == jpeg(3)
        assert list(runtime.catalogue.verify()) == []
        with pytest.raises(UpgradeRefused, match="no upgrade has left anything beside shop"):
            discard(runtime.catalogue, "shop")

    with_runtime(tmp_path, light_dir, work)


def test_items_without_a_picture_are_named_and_not_lost_unasked(tmp_path: Path, light_dir: Path) -> None:
    """A ready vector refuses the swap; what was embedded until then is not embedded again."""

    async def work(runtime: Runtime, model: Model) -> None:
        shop = await filled(runtime, 3)
        shop.import_vectors(["v"], np.eye(1, shop.dim, dtype=np.float32), fingerprint=shop.fingerprint)
        first = await upgraded(runtime, model)
        assert not first.replaced
        assert [each.path for each in first.missing] == ["v"]
        assert first.reason is not None and "1 of 4 items" in first.reason
        assert shop.dim == 2048 and shop.count() == 4
        again = await upgraded(runtime, model, force=True)
        assert (again.replaced, again.embedded, again.without) == (True, 0, 1)
        assert [item.id for item in shop.scan().items] == ["i0", "i1", "i2"]

    with_runtime(tmp_path, light_dir, work)


def test_uploads_that_were_not_kept_are_named(tmp_path: Path, light_dir: Path) -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        await filled(runtime, 2)
        done = await upgraded(runtime, model)
        assert {each.path for each in done.missing} == {"i0", "i1"}
        assert all("LOOKALIKE_KEEP_ORIGINALS" in each.reason for each in done.missing)
        assert not done.replaced

    with_runtime(tmp_path, light_dir, work, keep_originals=False)


def test_a_worse_ranking_is_refused_unless_forced(tmp_path: Path, light_dir: Path) -> None:
    """What lies in the new collection is taken over from an earlier try: here with vectors that are all alike."""

    async def work(runtime: Runtime, model: Model) -> None:
        shop, _ = runtime.create_collection("shop")
        following, _ = runtime.catalogue.create("shop-next", **model)
        following.records.put("upgrade", "of", {"collection": "shop"})
        for number in range(8):
            data = jpeg(number)
            one = entry(f"i{number}", number, data, label=number % 2)
            good = vector(number % 2, shop.dim) + 0.1 * vector(100 + number, shop.dim)
            bad = vector(number // 2 % 2 + 7, following.dim) + 0.1 * vector(200 + number, following.dim)
            shop.upsert([replace(one, vector=good)], fingerprint=shop.fingerprint)
            following.upsert([replace(one, vector=bad)], fingerprint=following.fingerprint)
        refused = await upgraded(runtime, model)
        assert refused.compared.before == 1.0
        assert refused.compared.after is not None and refused.compared.after < 0.8
        assert refused.reason is not None and "ranks worse" in refused.reason
        assert not refused.replaced and shop.dim == 2048
        assert (await upgraded(runtime, model, force=True)).replaced
        assert shop.dim == 1280

    with_runtime(tmp_path, light_dir, work)


def test_what_is_written_meanwhile_comes_along(tmp_path: Path, light_dir: Path) -> None:
    """Items added, changed, replaced and removed while pictures are embedded are in the new collection as well."""

    async def work(runtime: Runtime, model: Model) -> None:
        shop = await filled(runtime, 4)
        running = asyncio.create_task(upgraded(runtime, model, force=True))
        await put(runtime, shop, 9)
        shop.merge_metadata("i0", {"extra": True})
        shop.delete(["i1"])
        await put(runtime, shop, 10)
        done = await running
        assert done.replaced
        kept = runtime.collection("shop-before")
        before, after = ({item.id: item.metadata for item in each.scan().items} for each in (kept, shop))
        assert before == after
        assert after["i0"]["extra"] is True

    with_runtime(tmp_path, light_dir, work)


def test_what_cannot_be_upgraded_says_why(tmp_path: Path, light_dir: Path) -> None:
    async def work(runtime: Runtime, model: Model) -> None:
        shop = await filled(runtime, 1)
        with pytest.raises(UpgradeRefused, match=r"has the model .* already"):
            await upgraded(runtime, runtime.model.record)
        runtime.catalogue.create("shop-next", **MODEL)[0].upsert([entry("mine", 1)], fingerprint=MODEL["fingerprint"])
        with pytest.raises(UpgradeRefused, match="no upgrade has made"):
            await upgraded(runtime, model)
        runtime.catalogue.drop("shop-next")
        runtime.catalogue.create("shop-before", **MODEL)
        with pytest.raises(UpgradeRefused, match="discard it first"):
            await upgraded(runtime, model)
        with pytest.raises(UpgradeRefused, match="no upgrade has left"):  # it was made by somebody else
            discard(runtime.catalogue, "shop")
        runtime.catalogue.drop("shop")
        with pytest.raises(CollectionNotFound):
            await upgraded(runtime, model)
        assert shop.name == "shop"

    with_runtime(tmp_path, light_dir, work)


def test_the_comparison_counts_what_is_found(tmp_path: Path) -> None:
    """Agreement and mean average precision against a computation by hand; labels that nobody shares do not count."""
    catalogue = open_catalogue(tmp_path / "data")
    try:
        one, _ = catalogue.create("one", **MODEL)
        other, _ = catalogue.create("other", **MODEL)
        for number in range(12):
            label = {"label": number % 3} if number < 11 else {"label": "alone"}
            good = vector(number % 3 if number < 11 else 40) + 0.05 * vector(50 + number)
            one.upsert([Entry(f"i{number}", good, label)], fingerprint=MODEL["fingerprint"])
            other.upsert([Entry(f"i{number}", vector(number), label)], fingerprint=MODEL["fingerprint"])
        same = compare(one, one, "label")
        assert (same.queries, same.agreement, same.labelled, same.before, same.after) == (12, 1.0, 11, 1.0, 1.0)
        assert not same.falls
        found = compare(one, other, "label")
        vectors = other.vectors([f"i{number}" for number in range(12)])
        scores = vectors @ vectors.T
        precisions = []
        for query in range(11):
            ranking = [each for each in np.argsort(-scores[query]) if each != query]
            hits = np.array([each < 11 and each % 3 == query % 3 for each in ranking])
            precisions.append((np.cumsum(hits) / np.arange(1, 12))[hits].mean())
        assert found.after == pytest.approx(float(np.mean(precisions)))
        assert found.falls
        assert compare(one, other, "absent").before is None
        assert not compare(one, other, "absent").falls
    finally:
        catalogue.close()


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(), "model", "upgrade", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_command_works_alone_and_beside_a_server(server: StartServer, light_dir: Path) -> None:
    """The same JSON either way; a refusal is one line and exit code 1."""
    running = server("data")
    for name in ("shop", "other"):
        assert running.client.put(f"/v1/collections/{name}").status_code == 201
        for number in range(3):
            assert running.put(name, f"i{number}", jpeg(number)).status_code == 201
    environment = clean_environment(
        {"LOOKALIKE_DATA_DIR": str(running.data_dir), "LOOKALIKE_MODEL_DIR": str(light_dir), "LOOKALIKE_THREADS": "1"}
    )
    beside = run(["shop", "--model", LIGHT, "--json"], environment)
    assert beside.returncode == 0, beside.stderr
    found = json.loads(beside.stdout)
    assert (found["replaced"], found["kept"], found["items"], found["embedded"]) == (True, "shop-before", 3, 3)
    assert running.client.get("/v1/collections/shop").json()["fingerprint"].startswith(LIGHT)
    hit = running.search("shop", jpeg(1), limit=1).json()["results"][0]
    assert hit["id"] == "i1"
    refused = run(["shop", "--model", LIGHT], environment)
    assert refused.returncode == 1
    assert refused.stderr.strip().endswith("already")
    assert refused.stderr.count("\n") == 1
    running.stop()

    alone = run(["other", "--model", LIGHT, "--json"], environment)
    assert alone.returncode == 0, alone.stderr
    assert json.loads(alone.stdout) == found | {"collection": "other", "kept": "other-before"}
    gone = run(["other", "--discard"], environment)
    assert (gone.returncode, gone.stdout.strip()) == (0, "removed other-before")
    absent = run(["nothing", "--model", LIGHT], environment)
    assert absent.returncode == 1
    unbuilt = run(["shop", "--model", "resnet51"], environment)
    assert (unbuilt.returncode, unbuilt.stderr.count("\n")) == (1, 1)
