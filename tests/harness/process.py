"""A server that is measured or tested is the installed command, in a process and a data directory of its own."""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

ROOT = Path(__file__).resolve().parents[2]


def command() -> list[str]:
    """The installed `lookalike`, or the module behind it where the script is missing."""
    script = Path(sys.executable).with_name("lookalike")
    return [str(script)] if script.exists() else [sys.executable, "-m", "service.cli.main"]


def limited(descriptors: int) -> list[str]:
    """What goes ahead of a command so that it may open only so many files; nothing for 0."""
    return ["sh", "-c", f'ulimit -n {descriptors}; exec "$0" "$@"'] if descriptors else []


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without settings of Lookalike, then `extra`."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("LOOKALIKE_")}
    return kept | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"} | dict(extra or {})


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class ServerProcess:
    """`lookalike serve` on a free port of 127.0.0.1. Its log lies beside the data directory.

    It does not run in the project's folder, so that a developer's `.env` changes nothing.
    """

    def __init__(self, data_dir: Path, model_dir: Path, env: Mapping[str, str] | None = None) -> None:
        self.data_dir = data_dir
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.env = clean_environment(
            {
                "LOOKALIKE_DATA_DIR": str(data_dir),
                "LOOKALIKE_MODEL_DIR": str(model_dir.resolve()),
                "LOOKALIKE_PORT": str(self.port),
                **(env or {}),
            }
        )
        self.log_path = data_dir.with_name(data_dir.name + ".log")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, wait: float = 120, arguments: Sequence[str] = (), descriptors: int = 0) -> Self:
        """Starts the process; returns when /readyz answers 200. wait: seconds at most; 0 returns at once.

        arguments: of `lookalike serve`; descriptors: how many it may open, 0 for any number. Raises RuntimeError or
        TimeoutError with the end of the log.
        """
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [*limited(descriptors), *command(), "serve", *arguments],
                cwd=self.data_dir.parent,
                env=self.env,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"the server exited with {self.process.returncode}:\n{self.log()[-2000:]}")
            if self._ready():
                return self
            time.sleep(0.05)
        if wait:
            self.kill()
            raise TimeoutError(f"the server was not ready within {wait} s:\n{self.log()[-2000:]}")
        return self

    def _ready(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", "/readyz")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

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

    def family(self) -> list[psutil.Process]:
        """The server and its decoding processes."""
        if self.process is None:
            return []
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def cpu_seconds(self) -> float:
        """CPU time of the whole family so far."""
        return float(sum(each.cpu_times().user + each.cpu_times().system for each in self.family()))

    def memory_mib(self) -> float:
        """Memory that belongs to the family alone, in MiB; pages of mapped files are not counted."""
        return float(sum(each.memory_full_info().uss for each in self.family()) / 2**20)

    def anonymous_mib(self) -> float:
        """Memory that is no page of a file, in MiB: what the system cannot simply drop."""
        found = (re.search(r"^RssAnon:\s*(\d+) kB$", _status(each.pid), re.MULTILINE) for each in self.family())
        return sum(int(each[1]) for each in found if each) / 1024

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _status(pid: int) -> str:
    return Path(f"/proc/{pid}/status").read_text()
