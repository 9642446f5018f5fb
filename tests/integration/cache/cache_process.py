"""The cache as its own process, the way a deployment runs it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

GUARD_S = 60.0
EX_CONFIG = 78


class CacheProcess:
    """`python -m services.cache` on the state folder of a store."""

    def __init__(self, state_dir: Path, **environ: str) -> None:
        kept = ("ANTIPHON_MODEL_DIR",)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "OPENAI_")) or k in kept}
        self.run_file = state_dir / "run" / "cache.json"
        self.run_file.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "services.cache"],
            env={
                **inherited,
                "ANTIPHON_STATE_DIR": str(state_dir),
                "ANTIPHON_METRICS_LISTEN": "off",
                "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0",
                **environ,
            },
            stderr=subprocess.PIPE,
        )

    def listening(self) -> CacheProcess:
        until(lambda: self.run_file.exists() or self.process.poll() is not None, "the cache did not start")
        assert self.process.poll() is None, self.ended()
        return self

    def serving(self) -> CacheProcess:
        self.listening()
        until(self.is_ready, "the cache did not become ready")
        return self

    def is_ready(self) -> bool:
        return self.is_well("antiphon.cache.v1.CacheService")

    def is_well(self, part: str) -> bool:
        with grpc.insecure_channel(self.address) as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(service=part), timeout=GUARD_S)
        return answer.status == health_pb2.HealthCheckResponse.SERVING

    @property
    def address(self) -> str:
        return str(json.loads(self.run_file.read_text())["address"])

    def ended(self) -> tuple[int, str]:
        """Its exit status and what it said."""
        said = self.process.communicate(timeout=GUARD_S)[1].decode()
        return self.process.returncode, said

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            os.kill(self.process.pid, number)
            return self.ended()[0]
        return self.process.returncode


def until(state: Callable[[], bool], what: str) -> None:
    guard = time.monotonic() + GUARD_S
    while not state():
        assert time.monotonic() < guard, what
        time.sleep(0.02)
