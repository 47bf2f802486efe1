"""The service under load: where it is, and that it is one, ready, with something to find."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http.client import HTTPException
from typing import Any
from urllib.parse import urlsplit

from benchmarks.wire import Connection


class Unfit(Exception):
    """There is nothing here to load-test. One line: what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class Target:
    """host, port: of an http:// address; prefix: path in front of /v1, "" or "/x"; key: "" where none is asked for."""

    host: str
    port: int
    prefix: str = ""
    key: str = ""

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}{self.prefix}"

    def request(self, method: str, path: str, body: bytes = b"", media_type: str = "") -> bytes:
        """A whole HTTP/1.1 request on a kept-alive connection."""
        lines = [f"{method} {self.prefix}{path} HTTP/1.1", f"Host: {self.host}:{self.port}"]
        if self.key:
            lines.append(f"Authorization: Bearer {self.key}")
        if media_type:
            lines += [f"Content-Type: {media_type}", f"Content-Length: {len(body)}"]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body

    def connection(self) -> Connection:
        return Connection(self.port, self.host)

    def get(self, path: str) -> Any:
        """JSON of a 200 answer. Raises Unfit for every other outcome."""
        connection = self.connection()
        try:
            status, body = connection.ask(self.request("GET", path))
        except (OSError, HTTPException, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no HTTP answer that can be read"
            raise Unfit(f"{self.url} does not answer ({reason}): start the service, or correct --host") from None
        finally:
            connection.close()
        if status in (429, 503):
            raise Unfit(f"{self.url} is overloaded or not ready (status {status}): wait until /readyz answers 200")
        if status in (401, 403):
            raise Unfit(f"{self.url} refuses (status {status}): give a key that may do this in LOOKALIKE_LOAD_KEY")
        if status != 200:
            raise Unfit(f"{self.url} is no Lookalike (status {status} for {path}): correct --host")
        try:
            return json.loads(body)
        except ValueError:
            raise Unfit(f"{self.url} is no Lookalike ({path} is no JSON): correct --host") from None


def target_of(url: str, key: str = "") -> Target:
    """Raises Unfit for what is no http:// address or a key that no header can carry."""
    try:
        parts = urlsplit(url)
        port = parts.port or 80
    except ValueError:
        raise Unfit(f"--host {url!r} is no address: give http://HOST:PORT") from None
    plain = url.isascii() and url.isprintable() and " " not in url and "@" not in parts.netloc
    if parts.scheme != "http" or not parts.hostname or parts.query or parts.fragment or not plain:
        raise Unfit(
            f"--host {url!r} is no address to load: give http://HOST:PORT, behind TLS that of the service itself"
        )
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise Unfit("the key holds characters that no header can carry: copy it again")
    return Target(parts.hostname, port, parts.path.rstrip("/"), key)


@dataclass(frozen=True, slots=True)
class Service:
    """What the target says of itself. ids: of stored items, at least one."""

    model: dict[str, Any]
    version: str
    cores: int
    ids: list[str]


def inspect(target: Target, collection: str) -> Service:
    """Raises Unfit."""
    info = target.get("/v1/info")
    if not isinstance(info, dict) or info.get("name") != "lookalike":
        raise Unfit(f"{target.url} is no Lookalike (/v1/info does not say so): correct --host")
    target.get("/readyz")
    page = target.get(f"/v1/collections/{collection}/items?limit=100")
    ids = [item["id"] for item in page["items"]]
    if not ids:
        raise Unfit(f"collection {collection} at {target.url} is empty: import pictures, or name another")
    return Service(info["model"], info["version"], info["threads"], ids)
