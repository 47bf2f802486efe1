"""Tests that speak HTTP speak to the real command: a process, a port and a data directory of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

ROOT = Path(__file__).resolve().parent.parent


def command() -> list[str]:
    """The installed `lookalike`, or the module behind it where the script is missing."""
    script = Path(sys.executable).with_name("lookalike")
    return [str(script)] if script.exists() else [sys.executable, "-m", "service.cli"]


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Lookalike, then `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOKALIKE_")}
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | dict(extra or {})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A running `lookalike serve`. `client` is an httpx client with its address as base.

    Not in the project's folder, so that a developer's `.env` changes nothing.
    """

    def __init__(self, data_dir: Path, model_dir: Path, env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = clean_environment(
            {
                "LOOKALIKE_DATA_DIR": str(data_dir),
                "LOOKALIKE_MODEL_DIR": str(model_dir),
                "LOOKALIKE_PORT": str(self.port),
                **(env or {}),
            }
        )
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self.client = httpx.Client(base_url=self.url, timeout=60, trust_env=False)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: float = 120, arguments: Sequence[str] = ()) -> Server:
        """Starts the process; returns when /readyz answers 200. wait: seconds at most; 0 returns at once.

        arguments: of `lookalike serve`.
        """
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*command(), "serve", *arguments], cwd=self.data_dir.parent, env=self.env, stdout=log, stderr=log
            )
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}:\n{self.log()[-2000:]}")
            try:
                if self.client.get("/readyz").status_code == 200:
                    return self
            except httpx.TransportError:
                pass
            time.sleep(0.05)
        if wait:
            self.kill()
            raise TimeoutError(f"the server was not ready within {wait} s:\n{self.log()[-2000:]}")
        return self

    def stop(self, *, wait: float = 30) -> int:
        """SIGTERM, as a supervisor would; returns the exit code. A server that does not leave in time is killed."""
        if self.process is None:
            return 0
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(wait)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def kill(self) -> None:
        """SIGKILL, as the out-of-memory killer would."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)

    def close(self) -> None:
        self.client.close()
        if self.process is not None and self.process.poll() is None:
            self.stop()

    def log(self) -> str:
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def cli(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Runs `lookalike ARGUMENTS` with this server's settings, whether the server is up or not."""
        return subprocess.run(
            [*command(), *arguments],
            cwd=self.data_dir.parent,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def put(self, collection: str, id: str, image: bytes, metadata: str = "{}") -> httpx.Response:
        """PUT of one item, as multipart."""
        return self.client.put(
            f"/v1/collections/{collection}/items/{id}", files={"image": ("image", image)}, data={"metadata": metadata}
        )

    def search(self, collection: str, image: bytes, **fields: Any) -> httpx.Response:
        """POST of one picture to /search, as multipart."""
        return self.client.post(
            f"/v1/collections/{collection}/search",
            files={"image": ("image", image)},
            data={key: str(value) for key, value in fields.items()},
        )

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
