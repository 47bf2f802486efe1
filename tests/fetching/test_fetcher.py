"""The fetcher against a real server: what it takes, what it refuses, what it tries again, and what it asks for."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import pytest

from service.errors import UrlFailed, UrlRefused, UrlTooLarge
from service.fetching.fetcher import Fetched, Fetcher, Limits, Validators
from service.fetching.urls import FetchHosts
from tests.harness.shop import Reply, Shop, shop

FAST = Limits(seconds=5.0, attempts=3, patience=2.0, first_pause=0.01)


@pytest.fixture
def there() -> Iterator[Shop]:
    with shop() as opened:
        yield opened


def fetched(
    *urls: str,
    hosts: str = "127.0.0.1",
    enabled: bool = True,
    limits: Limits = FAST,
    max_bytes: int = 1000,
    validators: Validators | None = None,
) -> list[Fetched]:
    async def run() -> list[Fetched]:
        fetcher = Fetcher(enabled=enabled, hosts=FetchHosts.of(hosts))
        fetch: Callable[[str], Awaitable[Fetched]] = lambda url: fetcher.fetch(  # noqa: E731
            url, max_bytes=max_bytes, validators=validators, limits=limits
        )
        try:
            return await asyncio.gather(*map(fetch, urls))
        finally:
            await fetcher.close()

    return asyncio.run(run())


def test_a_picture_is_fetched_with_what_its_server_says_of_it(there: Shop) -> None:
    said = {"ETag": '"1"', "Last-Modified": "Tue, 24 Nov 2026 10:00:00 GMT"}
    there.replies["/a"] = [Reply(b"bytes", headers=said)]
    (got,) = fetched(there.url("/a"))
    assert got == Fetched(b"bytes", '"1"', "Tue, 24 Nov 2026 10:00:00 GMT")
    ((_, headers),) = there.asked
    assert headers["host"] == f"127.0.0.1:{there.port}"
    assert headers["accept-encoding"] == "identity"
    assert "cookie" not in headers
    for known in (Validators("", etag='"1"'), Validators("", modified=said["Last-Modified"])):
        assert fetched(there.url("/a"), validators=known) == [Fetched(None)]
    assert fetched(there.url("/a"), validators=Validators("", etag='"0"'))[0].data == b"bytes"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "[64:ff9b::127.0.0.1]"])
def test_private_hosts_are_refused_unless_they_are_let_in(there: Shop, host: str) -> None:
    with pytest.raises(UrlRefused, match="private network"):
        fetched(f"http://{host}/a", hosts="")
    assert there.asked == []


def test_another_name_of_a_host_that_is_let_in_is_refused(there: Shop) -> None:
    there.replies["/a"] = [Reply(b"x")]
    with pytest.raises(UrlRefused):
        fetched(f"http://localhost:{there.port}/a")
    assert fetched(f"http://localhost:{there.port}/a", hosts="localhost")[0].data == b"x"
    assert there.asked[0][1]["host"] == f"localhost:{there.port}"


def test_nothing_is_fetched_while_it_is_off(there: Shop) -> None:
    with pytest.raises(UrlRefused, match="LOOKALIKE_FETCH_URLS"):
        fetched(there.url("/a"), enabled=False)
    assert there.asked == []


def test_no_proxy_of_the_environment_is_asked(there: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with shop() as proxy:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        there.replies["/a"] = [Reply(b"x")]
        assert fetched(there.url("/a"))[0].data == b"x"
        assert proxy.asked == []


def test_three_redirects_are_followed_and_a_fourth_is_not(there: Shop) -> None:
    for step in range(5):
        there.replies[f"/{step}"] = [Reply(status=302, headers={"Location": f"/{step + 1}"})]
    there.replies["/4"] = [Reply(b"x")]
    assert fetched(there.url("/1"))[0].data == b"x"
    with pytest.raises(UrlFailed, match="more than 3 times"):
        fetched(there.url("/0"))


@pytest.mark.parametrize(
    "location",
    ["http://localhost/a", "http://10.0.0.1/", "ftp://127.0.0.1/", "http://[::1]/", "http://127.1/", "file:///etc/passwd"],
)  # fmt: skip
def test_a_redirect_to_where_nothing_may_be_fetched_is_refused(there: Shop, location: str) -> None:
    there.replies["/a"] = [Reply(status=301, headers={"Location": location})]
    with pytest.raises(UrlRefused):
        fetched(there.url("/a"))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(there: Shop, status: int) -> None:
    there.replies["/a"] = [Reply(status=status), Reply(status=status), Reply(b"x")]
    assert fetched(there.url("/a"))[0].data == b"x"
    there.replies["/b"] = [Reply(status=status)]
    with pytest.raises(UrlFailed, match=str(status)):
        fetched(there.url("/b"))
    assert there.paths().count("/b") == 3


@pytest.mark.parametrize("status", [204, 206, 400, 401, 403, 404, 410, 304])
def test_what_does_not_pass_is_asked_for_once(there: Shop, status: int) -> None:
    there.replies["/a"] = [Reply(status=status)]
    with pytest.raises(UrlFailed, match=f"answered {status}"):
        fetched(there.url("/a"))
    assert there.paths() == ["/a"]


def test_a_host_is_left_alone_as_long_as_it_asks_for(there: Shop) -> None:
    there.replies["/a"] = [Reply(status=429, headers={"Retry-After": "1"}), Reply(b"x")]
    assert fetched(there.url("/a"))[0].data == b"x"
    there.replies["/b"] = [Reply(status=503, headers={"Retry-After": "3600"})]
    with pytest.raises(UrlFailed):
        fetched(there.url("/b"))
    assert there.paths().count("/b") == 1  # nobody waits for an hour


def test_a_host_gets_few_requests_at_a_time(there: Shop) -> None:
    paths = [f"/{number}" for number in range(20)]
    there.replies.update({path: [Reply(b"x", pause=0.02)] for path in paths})
    assert len(fetched(*map(there.url, paths))) == 20
    assert there.most_at_once <= FAST.per_host


def test_an_answer_that_is_too_large_is_left(there: Shop) -> None:
    there.replies["/told"] = [Reply(b"", promised=10**12)]
    there.replies["/long"] = [Reply(bytes(1001))]
    there.replies["/bomb"] = [Reply(gzip.compress(bytes(10**7)), headers={"Content-Encoding": "gzip"})]
    there.replies["/just"] = [Reply(bytes(1000))]
    for path in ("/told", "/long", "/bomb"):
        with pytest.raises(UrlTooLarge):
            fetched(there.url(path))
    assert fetched(there.url("/just"))[0].data == bytes(1000)


def test_an_unasked_coding_is_undone_or_refused(there: Shop) -> None:
    packed = gzip.compress(b"picture")
    there.replies["/a"] = [Reply(packed, headers={"Content-Encoding": "gzip"})]
    there.replies["/b"] = [Reply(packed[:-6], headers={"Content-Encoding": "gzip"})]
    there.replies["/c"] = [Reply(packed, headers={"Content-Encoding": "br"})]
    assert fetched(there.url("/a"))[0].data == b"picture"
    for path in ("/b", "/c"):
        with pytest.raises(UrlFailed, match="coding"):
            fetched(there.url(path))


def test_an_answer_that_breaks_off_or_drips_fails(there: Shop) -> None:
    there.replies["/cut"] = [Reply(b"half", promised=8)]
    there.replies["/drip"] = [Reply(bytes(200), drip=0.1)]
    there.replies["/slow"] = [Reply(b"x", pause=3.0)]
    there.replies["/empty"] = [Reply(b"")]
    hasty = replace(FAST, seconds=0.5, attempts=1)
    for path in ("/cut", "/drip", "/slow", "/empty"):
        with pytest.raises(UrlFailed):
            fetched(there.url(path), limits=hasty)


def test_a_server_that_is_not_there_fails_in_one_line() -> None:
    with shop() as gone:
        url = gone.url("/a")
    with pytest.raises(UrlFailed) as error:
        fetched(url)
    assert "\n" not in str(error.value)
    with pytest.raises(UrlFailed, match="no address"):
        fetched("http://no-such-host.invalid/a", limits=replace(FAST, attempts=1))
