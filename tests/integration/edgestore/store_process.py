"""The embedded store as a real process, for tests: started, killed, asked to stop."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from services.edgestore.token import FILE_NAME

START_GUARD_S = 30.0


class StoreProcess:
    """`python -m services.edgestore` on a state folder."""

    def __init__(self, state_dir: Path, **environ: str) -> None:
        self.state_dir = state_dir
        self.environ = {**{k: v for k, v in os.environ.items() if not k.startswith("ANTIPHON_")}, **environ}
        self.environ["ANTIPHON_STATE_DIR"] = str(state_dir)
        self.environ.setdefault("ANTIPHON_METRICS_LISTEN", "off")
        self._process: subprocess.Popen[bytes] | None = None

    def spawn(self, *, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[bytes]:
        """Start it without waiting."""
        self.run_file.unlink(missing_ok=True)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.edgestore"], env=self.environ, stderr=subprocess.PIPE, pass_fds=pass_fds
        )
        return self._process

    def start(self, *, pass_fds: tuple[int, ...] = ()) -> StoreProcess:
        """Start it and wait until it has written its run file."""
        process = self.spawn(pass_fds=pass_fds)
        guard = time.monotonic() + START_GUARD_S
        while not self.run_file.exists():
            if process.poll() is not None:
                assert process.stderr is not None
                raise AssertionError(f"ended with {process.returncode}: {process.stderr.read().decode()}")
            assert time.monotonic() < guard, "the store did not start"
            time.sleep(0.01)
        return self

    @property
    def run_file(self) -> Path:
        return self.state_dir / "run" / "edgestore.json"

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://{json.loads(self.run_file.read_text())['address']}"

    @property
    def token(self) -> str:
        return (self.state_dir / FILE_NAME).read_text()

    def wait(self) -> int:
        """Its exit status, once it has ended."""
        assert self._process is not None
        status = self._process.wait(START_GUARD_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        return status

    def kill(self) -> None:
        """SIGKILL, and wait for its end."""
        os.kill(self.pid, signal.SIGKILL)
        assert self.wait() == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM, and its exit status."""
        os.kill(self.pid, signal.SIGTERM)
        return self.wait()

    def close(self) -> None:
        """For teardown: end it however it is."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        elif self._process is not None and self._process.stderr is not None:
            self._process.stderr.close()
