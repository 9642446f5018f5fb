"""The whole suite as a person starts it: `antiphon up` on free ports and a state folder of its own."""

from __future__ import annotations

import os
import queue
import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from services.chassis import runfile
from tests.canaries import keep_output

ANTIPHON = Path(sys.executable).with_name("antiphon")
NAMES = ("edgestore", "cache", "router", "completion")
SERVICES = ("cache", "router", "completion")
GUARD = 60.0
"""Seconds that nothing here may take."""

PORTS = range(10_000, 32_768)
"""Below those that Linux takes for connections, and for listeners that want any (ip_local_port_range)."""

CATALOGUE = """
include_default = false

[upstreams.fake]
kind = "openai"
base_url = "{base_url}"

[models.small]
upstream = "fake"
context_tokens = 100_000
max_output_tokens = 4_096
capabilities = ["streaming", "tools"]
prices = {{ input = "1", output = "10", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 50 }}
quality = {{ tier = "moderate" }}

[models.large]
upstream = "fake"
context_tokens = 100_000
max_output_tokens = 4_096
capabilities = ["streaming", "tools"]
prices = {{ input = "100", output = "1000", date = 2026-01-01 }}
latency = {{ first_token_seconds = 0.1, tokens_per_second = 50 }}
quality = {{ tier = "complex" }}
"""
"""Two models of the fake server; a request that names none gets `small`, if it is not a hard one."""


def free_ports(count: int) -> list[int]:
    """Return ports that were free a moment ago, and that the kernel gives to nobody who does not name them."""
    ports: list[int] = []
    while len(ports) < count:
        port = secrets.choice(PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            ports.append(port)
    return ports


def environment(state_dir: Path, **variables: str) -> dict[str, str]:
    """Return variables for a suite that shares nothing with another but the embedding model."""
    kept = {
        k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "OPENAI_")) or k == "ANTIPHON_MODEL_DIR"
    }
    ports = zip(SERVICES, free_ports(len(SERVICES)), strict=True)
    listens = {f"ANTIPHON_{name.upper()}_LISTEN": f"127.0.0.1:{port}" for name, port in ports}
    # Tests count calls of models: one in a hundred hits must not be answered again unless a test wants that.
    quiet = {"ANTIPHON_CACHE_AUDIT_SHARE": "0"}
    return {**kept, **quiet, "ANTIPHON_STATE_DIR": str(state_dir), **listens, **variables}


def two_models(folder: Path, base_url: str) -> Path:
    """Write a catalogue whose models `small` and `large` are on a fake server; return its path."""
    path = folder / "catalogue.toml"
    path.write_text(CATALOGUE.format(base_url=base_url))
    return path


class SuiteProcess:
    """`antiphon up`; its lines are read while it runs."""

    def __init__(self, environ: Mapping[str, str], *arguments: str) -> None:
        self.environ = dict(environ)
        self.state_dir = Path(environ["ANTIPHON_STATE_DIR"])
        self.lines: list[str] = []
        self._queue: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self.process = subprocess.Popen(
            [str(ANTIPHON), "up", *arguments],
            env=self.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._errors: list[str] = []
        self._readers = [
            threading.Thread(target=self._read_lines, daemon=True),
            threading.Thread(target=self._read_errors, daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    @property
    def errors(self) -> str:
        """What came on stderr, the services' logs included."""
        return "".join(self._errors)

    def wait_for(self, text: str, *, seconds: float = GUARD) -> str:
        """Return the next line that contains `text`."""
        while (line := self._queue.get(timeout=seconds)) is not None:
            if text in line:
                return line
        self.wait()
        raise AssertionError(f"ended without {text!r}: {self.lines}\n{self.errors}")

    def wait(self) -> int:
        """Wait for the end; return the exit status."""
        code = self.process.wait(GUARD)
        for reader in self._readers:
            reader.join(GUARD)
        keep_output(self.state_dir, self.process.pid, "\n".join([*self.lines, self.errors]))
        return code

    def pid(self, name: str) -> int:
        """The process id of a child, from its run file."""
        return self.running(name).pid

    def running(self, name: str) -> runfile.RunFile:
        """What a child has said about itself."""
        found = runfile.read(self.state_dir, name)
        assert found is not None, f"{name} has no run file"
        return found

    def address(self, name: str) -> str:
        """Where a service listens."""
        found = self.running(name).address
        assert found
        return found

    def close(self) -> None:
        """End everything, at once if need be."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(GUARD)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.wait()

    def _read_lines(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                self._queue.put(self.lines[-1])
        self._queue.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr:
            self._errors.extend(self.process.stderr)
