"""A package registry of one package on 127.0.0.1: fetching is tested with the real npm and without a network."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def tarball(text: bytes = b"hello", script: str = "false") -> bytes:
    """An npm package as it travels; `script` is what it would like to run."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as archive:
        scripts = dict.fromkeys(("prepare", "prepack", "preinstall", "postinstall"), script)
        manifest = json.dumps({"name": "things", "version": "1.2.3", "scripts": scripts})
        for name, data in (("package/package.json", manifest.encode()), ("package/data.bin", text)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return target.getvalue()


def sha512(data: bytes) -> str:
    return base64.b64encode(hashlib.sha512(data).digest()).decode()


@contextmanager
def registry(data: bytes, *, sent: bytes | None = None) -> Iterator[str]:
    """Serves `things@1.2.3` and yields the registry's address; `sent` travels in place of the promised `data`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.endswith(".tgz"):
                body = data if sent is None else sent
            elif self.path == "/things":
                dist = {"tarball": f"http://{self.headers['Host']}/things.tgz", "integrity": f"sha512-{sha512(data)}"}
                version = {"name": "things", "version": "1.2.3", "dist": dist}
                body = json.dumps({"name": "things", "versions": {"1.2.3": version}}).encode()
            else:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
