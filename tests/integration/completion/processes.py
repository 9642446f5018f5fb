"""Single processes of the suite, started by a test on a state folder of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from services.chassis import runfile
from tests.canaries import keep_output

GUARD = 60.0
"""Seconds that nothing here may take."""


class ServiceProcess:
    """`python -m services.<name>` until `close`."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.name = name
        self.state_dir = Path(environ["ANTIPHON_STATE_DIR"])
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            env={**environ, "ANTIPHON_METRICS_LISTEN": "off"},
            stderr=subprocess.PIPE,
            text=True,
        )

    def listening(self) -> str:
        """Wait until it listens; return where."""
        deadline = time.monotonic() + GUARD
        while True:
            found = runfile.read(self.state_dir, self.name)
            if found is not None and found.pid == self.process.pid and found.address:
                return found.address
            assert self.process.poll() is None, self.process.communicate()[1]
            assert time.monotonic() < deadline, f"{self.name} did not start"
            time.sleep(0.02)

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        self.process.send_signal(signal.SIGTERM)

    def wait(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was logged."""
        errors = self.process.communicate(timeout=GUARD)[1]
        keep_output(self.state_dir, self.process.pid, errors)
        return self.process.returncode, errors

    def close(self) -> None:
        """End it at once."""
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
