"""What many tests share: real photographs, the built model, and real server processes."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import photographs
from tests.harness.photographs import Photo
from tests.harness.serving import ROOT, Server
from tests.harness.soak import examples

if TYPE_CHECKING:
    from playwright.sync_api import Browser

LIVE_SERVERS = pytest.StashKey[list[Server]]()

Photos = Callable[..., list[Photo]]
StartServer = Callable[..., Server]


def pytest_configure(config: pytest.Config) -> None:
    # No test asserts a time, so neither does Hypothesis: on a busy machine a deadline is a coin toss.
    settings.register_profile(
        "lookalike", deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("lookalike")
    config.stash[LIVE_SERVERS] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failure shows what the servers it talked to have logged."""
    report = yield
    if report.failed:
        for server in item.config.stash[LIVE_SERVERS]:
            report.sections.append((f"log of {server.url}", server.log()[-6000:]))
    return report


def absent(reason: str) -> NoReturn:
    """Skips with the reason; in CI nothing may be missing, so there it fails."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason} (CI must not leave this out)", pytrace=False)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def photo_root() -> Path:
    """The folder of real photographs: LOOKALIKE_TEST_DATA, or ../shared/data beside the project."""
    root = photographs.folder()
    if not root.is_dir():
        absent(f"no photographs at {root}: set LOOKALIKE_TEST_DATA")
    return root


@pytest.fixture(scope="session")
def photos(photo_root: Path) -> Photos:
    """photos("groceries", "queries", 100) → that many rows, always the same; without a number all, in file order."""

    def read(dataset: str, split: str, count: int | None = None, seed: int = 7) -> list[Photo]:
        rows = photographs.split(dataset, split)
        if count is not None:
            random.Random(seed).shuffle(rows)
        return rows[:count]

    return read


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The project's built models: fp32, and what the service chooses here; built now where `make setup` has not run."""
    from models.build.build import build
    from models.runtimes.processor import resolve_precision

    directory = Path(os.environ.get("LOOKALIKE_MODEL_DIR") or ROOT / "data" / "models")
    weights = os.environ.get("LOOKALIKE_WEIGHTS")
    for precision in ("fp32", resolve_precision("auto", "auto")):
        build(directory, precision=precision, weights=Path(weights) if weights else None)
    return directory


@pytest.fixture(scope="session")
def light_dir(model_dir: Path) -> Path:
    """The project's built models with EfficientNet-Lite2 among them: fp32, and what the service chooses here."""
    from models.build.build import build
    from models.errors import WeightsUnavailable
    from models.runtimes.processor import resolve_precision

    try:
        for precision in ("fp32", resolve_precision("auto", "auto")):
            build(model_dir, model="efficientnet-lite2", precision=precision)
    except WeightsUnavailable as error:
        absent(str(error))
    return model_dir


def _factory(config: pytest.Config, directory: Path, model_dir: Path) -> Iterator[StartServer]:
    with ExitStack() as stack:
        live = config.stash[LIVE_SERVERS]

        def start(
            name: str = "data", *, env: Mapping[str, str] | None = None, model_dir: Path = model_dir, **options: Any
        ) -> Server:
            server = stack.enter_context(Server(directory / name, model_dir, env))
            live.append(server)
            stack.callback(live.remove, server)
            return server.start(**options)

        yield start


@pytest.fixture
def server(pytestconfig: pytest.Config, tmp_path: Path, model_dir: Path) -> Iterator[StartServer]:
    """server() starts `lookalike serve` with an empty data directory and stops it after the test.

    server("other", env={"LOOKALIKE_QUEUE_LIMIT": "2"}, wait=0): another directory, settings, no waiting for /readyz.
    """
    yield from _factory(pytestconfig, tmp_path, model_dir)


@pytest.fixture(scope="module")
def module_server(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, model_dir: Path
) -> Iterator[StartServer]:
    """The same for servers that a whole module shares."""
    yield from _factory(pytestconfig, tmp_path_factory.mktemp("server"), model_dir)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, without a window."""
    from tests.harness.browser import installed, launched

    executable = installed()
    if executable is None:
        absent("no Chromium here: run scripts/system-packages")
    with launched(executable) as browser:
        yield browser
