"""Whom the service answers: its own names, its own pages, the configured origins, and what a proxy shows of it."""

from __future__ import annotations

import gzip
import re
import socket

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.http.door import Hosts, split_authority
from service.settings import SettingsError, load_settings
from tests.conftest import StartServer
from tests.harness.pictures import jpeg
from tests.harness.proxy import reverse_proxy
from tests.harness.serving import Server
from tests.harness.wire import Answer, ask, request

SHOP = "https://shop.example"
SEARCH = "/v1/collections/default/search"
WRITE = "/v1/collections/written"


@pytest.fixture(scope="module")
def closed(module_server: StartServer) -> Server:
    """As it comes: nothing is configured."""
    return module_server("closed")


@pytest.fixture(scope="module")
def shown(module_server: StartServer) -> Server:
    """Behind a proxy, called by the pages of two origins."""
    return module_server(
        "shown",
        env={
            "LOOKALIKE_ALLOWED_HOSTS": "images.example, *.inside.example.",
            "LOOKALIKE_CORS_ORIGINS": f"{SHOP}/, HTTP://localhost:3000",
        },
    )


OURS = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.0.0.1:8431", "127.9.9.9", "[::1]", "[::1]:8000", "localhost.",
        "shop.localhost:8000", "localhost:"]  # fmt: skip
FOREIGN = ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "1.2.3.4", "[::2]",
           "images.example", "0.0.0.0", "evillocalhost", "xn--lcalhost-w0a"]  # fmt: skip
NONE = [
    "",
    "a b",
    "local host",
    "localhost/",
    "user@localhost",
    "localhost:port",
    "[::1",
    "::1",
    "localhost, localhost",
]


@pytest.mark.parametrize("host", OURS)
def test_loopback_names_are_ours(closed: Server, host: str) -> None:
    assert ask(closed.port, request("GET", "/v1/info", host=host)).status == 200


@pytest.mark.parametrize("host", FOREIGN)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "HEAD"])
def test_another_name_is_misdirected(closed: Server, host: str, method: str) -> None:
    """A page of evil.example could let its own name point here, and read everything."""
    sent = request(method, "/v1/collections/default", host=host, headers=["Connection: close"])
    if method == "HEAD":
        assert b" 421 " in head_of(closed, sent)
        return
    answer = ask(closed.port, sent)
    assert (answer.status, answer.problem) == (421, "misdirected")


def head_of(server: Server, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), 10) as raw:
        raw.sendall(sent)
        return raw.makefile("rb").readline()


@pytest.mark.parametrize("host", NONE)
def test_what_is_no_name_is_malformed(closed: Server, host: str) -> None:
    answer = ask(closed.port, request("GET", "/v1/info", host=host))
    assert (answer.status, answer.problem) == (400, "malformed-http")


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_probes_may_use_any_name(closed: Server, path: str) -> None:
    """An orchestrator asks under an address that nobody configures."""
    assert ask(closed.port, request("GET", path, host="10.1.2.3:8000")).status == 200


@pytest.mark.parametrize("host", ["images.example", "images.example:443", "a.inside.example", "a.b.inside.example"])
def test_configured_names_are_ours(shown: Server, host: str) -> None:
    assert ask(shown.port, request("GET", "/v1/info", host=host)).status == 200


@pytest.mark.parametrize("host", ["inside.example", "a.images.example", "images.example.org", "evilinside.example"])
def test_names_beside_them_are_not(shown: Server, host: str) -> None:
    assert ask(shown.port, request("GET", "/v1/info", host=host)).status == 421


def test_beyond_loopback_plain_addresses_are_ours_and_names_are_not() -> None:
    everywhere, one = Hosts("", "0.0.0.0"), Hosts("", "shop.lan")
    assert everywhere.ours("192.168.1.7") and everywhere.ours("fe80::1") and everywhere.ours("localhost")
    assert one.ours("shop.lan") and not one.ours("evil.example") and not everywhere.ours("evil.example")
    assert Hosts("*", "0.0.0.0").ours("evil.example")


@given(st.text(max_size=60))
def test_any_text_is_an_authority_or_none(text: str) -> None:
    found = split_authority(text)
    assert found is None or (found[0] and not set(found[0]) & set("/?#@[] "))


# ---- origins ----


def written(server: Server, origin: str, *, host: str = "localhost", method: str = "PUT") -> Answer:
    return ask(server.port, request(method, WRITE, host=host, headers=[f"Origin: {origin}"]))


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:3000", "http://localhost.evil.example", "file://", "nonsense",
     "http://[", "http://",
     "http://localhost:81", "https://shop.example"],
)  # fmt: skip
@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST"])
def test_a_write_from_another_site_is_forbidden(closed: Server, origin: str, method: str) -> None:
    answer = written(closed, origin, method=method)
    assert (answer.status, answer.problem) == (403, "forbidden")
    assert ask(closed.port, request("GET", WRITE)).status == 404, "it was written all the same"
    assert ask(closed.port, request("GET", "/v1/info", headers=[f"Origin: {origin}"])).status == 200


@pytest.mark.parametrize(
    ("origin", "host"),
    [("http://localhost", "localhost"), ("http://localhost:8000", "LOCALHOST:8000"),
     ("https://localhost", "localhost:443"),
     ("http://[::1]:8000", "[::1]:8000"), ("http://127.0.0.1", "127.0.0.1:80")],
)  # fmt: skip
def test_its_own_page_may_write(closed: Server, origin: str, host: str) -> None:
    assert written(closed, origin, host=host).status in (200, 201)
    assert written(closed, origin, host=host, method="DELETE").status == 204


@pytest.mark.parametrize(
    "origin", [SHOP, "http://localhost:3000", "https://images.example", "https://images.example:8443"]
)
def test_configured_origins_and_the_pages_of_configured_names_may_write(shown: Server, origin: str) -> None:
    assert written(shown, origin, host="images.example").status in (200, 201)


# ---- CORS ----


def preflight(server: Server, origin: str, *more: str) -> Answer:
    headers = [f"Origin: {origin}", "Access-Control-Request-Method: PUT", *more]
    return ask(server.port, request("OPTIONS", f"{WRITE}/items/a", headers=headers))


def test_a_preflight_is_answered_to_configured_origins(shown: Server) -> None:
    asked = "Access-Control-Request-Headers: content-type, x-key"
    answer = preflight(shown, SHOP, asked, "Access-Control-Request-Private-Network: true")
    assert answer.status == 204 and answer.headers["access-control-allow-origin"] == SHOP
    assert "PUT" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type, x-key"
    assert answer.headers["access-control-allow-private-network"] == "true"
    assert "Origin" in answer.headers["vary"]
    assert "access-control-allow-private-network" not in preflight(shown, SHOP).headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://shop.example.evil.example"])
def test_a_refused_preflight_is_a_problem_and_counted(shown: Server, closed: Server, origin: str) -> None:
    for server in (shown, closed):
        before = counted(server)
        answer = preflight(server, origin)
        assert (answer.status, answer.problem) == (403, "forbidden")
        assert "access-control-allow-origin" not in answer.headers
        assert counted(server) == before + 1


def counted(server: Server) -> float:
    text = ask(server.port, request("GET", "/metrics")).body.decode()
    found = re.search(r'requests_total\{method="OPTIONS",route="[^"]*",status="403"\} (\S+)', text)
    return float(found[1]) if found else 0.0


STATUSES = {
    200: request("GET", "/v1/info", headers=[f"Origin: {SHOP}"]),
    201: request("PUT", "/v1/collections/new", headers=[f"Origin: {SHOP}"]),
    204: request("DELETE", "/v1/collections/new", headers=[f"Origin: {SHOP}"]),
    404: request("GET", "/v1/nothing", headers=[f"Origin: {SHOP}"]),
    405: request("POST", "/livez", headers=[f"Origin: {SHOP}"]),
    413: request("POST", SEARCH, headers=[f"Origin: {SHOP}", "Content-Type: image/jpeg", "Content-Length: 99999999"]),
    415: request("POST", SEARCH, b"x", headers=[f"Origin: {SHOP}", "Content-Type: text/plain"]),
    421: request("GET", "/v1/info", headers=[f"Origin: {SHOP}"], host="evil.example"),
    422: request("GET", "/v1/collections?x=y", headers=[f"Origin: {SHOP}"]),
}


@pytest.mark.parametrize("status", STATUSES)
def test_every_status_can_be_read_by_a_configured_origin(shown: Server, status: int) -> None:
    answer = ask(shown.port, STATUSES[status])
    assert answer.status == status and answer.headers["access-control-allow-origin"] == SHOP
    foreign = ask(shown.port, STATUSES[status].replace(SHOP.encode(), b"https://evil.example"))
    assert "access-control-allow-origin" not in foreign.headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [("https://a.example/", "https://a.example"), ("https://A.example:443", "https://a.example"),
     ("http://a.example:80/ , http://b.example:8080", "http://a.example,http://b.example:8080"), ("*", "*"),
     ("capacitor://localhost", "capacitor://localhost"), ("http://[::1]:3000/", "http://[::1]:3000")],
)  # fmt: skip
def test_origins_are_kept_as_browsers_send_them(given: str, kept: str) -> None:
    assert load_settings({"LOOKALIKE_CORS_ORIGINS": given}, None)[0].cors_origins == kept


REFUSED = {
    "LOOKALIKE_CORS_ORIGINS": ["https://a.example/path", "a.example", "https://", "https://a.example?x", "https://*.b.c",
                               "https://u@a.example", "//a.example"],
    "LOOKALIKE_ALLOWED_HOSTS": ["https://a.example", "a.example:80", "a.example/x", "a b", "*.*.c", "a.*"],
    "LOOKALIKE_ROOT_PATH": ["shop", "/a b", "/../x", "/v1", "/docs/x", "/a//b", "/a?b", "https://a.example/x"],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in REFUSED.items() for value in values])
def test_what_is_no_origin_host_or_path_is_refused_at_the_start(name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name) as error:
        load_settings({name: value}, None)
    assert "\n" not in str(error.value) and "Value error" not in str(error.value)


# ---- assets ----


ASSETS = ["/", "/docs", "/openapi.json", "/static/app.js", "/static/app.css", "/docs/static/swagger-ui-bundle.js"]


@pytest.mark.parametrize("path", ASSETS)
def test_assets_are_compressed_for_whoever_can_read_it(closed: Server, path: str) -> None:
    plain = ask(closed.port, request("GET", path))
    packed = ask(closed.port, request("GET", path, headers=["Accept-Encoding: br;q=1, gzip;q=0.5"]))
    assert plain.status == packed.status == 200 and "content-encoding" not in plain.headers
    if len(plain.body) > 1024:
        assert packed.headers["content-encoding"] == "gzip" and len(packed.body) < len(plain.body) * 0.6
        assert gzip.decompress(packed.body) == plain.body
    assert "Accept-Encoding" in packed.headers["vary"]
    for refused in ("gzip;q=0", "br", "*;q=0"):
        answer = ask(closed.port, request("GET", path, headers=[f"Accept-Encoding: {refused}"]))
        assert "content-encoding" not in answer.headers and answer.body == plain.body
    for answer, coding in ((plain, "identity"), (packed, "gzip")):
        again = [f"If-None-Match: {answer.headers['etag']}", f"Accept-Encoding: {coding}"]
        assert ask(closed.port, request("GET", path, headers=again)).status == 304


def test_pages_allow_nothing_from_elsewhere(closed: Server) -> None:
    for path in ("/", "/docs"):
        policy = ask(closed.port, request("GET", path)).headers["content-security-policy"]
        assert "default-src 'none'" in policy and "script-src 'self';" in policy and "http" not in policy


# ---- a proxy in front ----


@pytest.mark.parametrize("strip", [True, False])
def test_a_proxy_shows_the_service_under_a_path(server: StartServer, strip: bool) -> None:
    """Whether it takes its prefix off or not, every address that the service names leads through it."""
    env = {"LOOKALIKE_ROOT_PATH": "/pictures/like/", "LOOKALIKE_ALLOWED_HOSTS": "images.example"}
    one = server(env=env)
    assert one.put("default", "a", jpeg(1)).status_code == 201
    with (
        reverse_proxy(one.port, "/pictures/like", host="images.example", strip=strip) as origin,
        httpx.Client(base_url=origin, trust_env=False, timeout=30) as client,
    ):
        base = "/pictures/like"
        files = {"image": ("a.jpg", jpeg(1))}
        headers = {"origin": "https://images.example"}
        found = client.post(f"{base}{SEARCH}", files=files, headers=headers)
        assert found.status_code == 200, found.text
        thumbnail = found.json()["results"][0]["thumbnail_url"]
        assert thumbnail.startswith(f"{base}/v1/") and client.get(thumbnail).headers["content-type"] == "image/webp"
        assert client.get(f"{base}/openapi.json").json()["servers"][0]["url"] == base
        assert client.get(f"{base}/v1/nothing").json()["instance"] == f"{base}/v1/nothing"
        for page in (base, f"{base}/", f"{base}/docs"):
            shown = client.get(page)
            assert shown.status_code == 200
            links = re.findall(r'(?:src|href)="(/[^"]*)"', shown.text)
            assert links and all(client.get(link).status_code == 200 for link in links), links
