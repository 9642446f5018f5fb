"""The processes of one evaluation: for every verifier a cache and its store, on loopback ports of their own."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from antiphon_client import AsyncCacheClient
from tests.quality.eval_cache.service import VARIABLE

START_SECONDS = 120.0
POLL_SECONDS = 0.1
STOP_SECONDS = 30.0
PATIENT = {
    "ANTIPHON_METRICS_LISTEN": "off",
    "ANTIPHON_LOG_SAMPLE": "0",
    "ANTIPHON_CACHE_LISTEN": "127.0.0.1:0",
    "ANTIPHON_CACHE_DECISION_BUDGET": "10",
    "ANTIPHON_EMBEDDING_BATCH_DELAY": "0",
}
"""A busy machine is no reason for another decision."""


@asynccontextmanager
async def fleet(
    verifiers: Mapping[str, Path | None], *, preset: str, scratch: Path, work: Path
) -> AsyncIterator[dict[str, AsyncCacheClient]]:
    """A client for each verifier by its name; None is the packaged one. Every service runs with `preset`."""
    async with AsyncExitStack() as stack:
        started = []
        for name, verifier in verifiers.items():
            state = work / name
            state.mkdir(parents=True)
            environ = {**_clean(), **PATIENT, "ANTIPHON_STATE_DIR": str(state), "ANTIPHON_CACHE_PRESET": preset}
            environ[VARIABLE] = str(scratch)
            environ["ANTIPHON_CACHE_LEARNING"] = "off"  # the preset is measured, not what the stream makes of it
            if verifier is not None:
                environ["ANTIPHON_CACHE_VERIFIER"] = str(verifier)
            for module in ("services.edgestore", "tests.quality.eval_cache.service"):
                process = _start(module, environ, state / f"{module.rpartition('.')[2]}.log")
                stack.push_async_callback(_stop, process)
                started.append(process)
        clients = {}
        async with asyncio.timeout(START_SECONDS):
            for name in verifiers:
                address = await _serving(work / name, started)
                clients[name] = await stack.enter_async_context(AsyncCacheClient(address))
        yield clients


def _clean() -> dict[str, str]:
    kept = ("ANTIPHON_MODEL_DIR",)
    return {k: v for k, v in os.environ.items() if not k.startswith(("ANTIPHON_", "OPENAI_")) or k in kept}


def _start(module: str, environ: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as file:
        return subprocess.Popen([sys.executable, "-m", module], env=environ, stderr=file)


async def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        await asyncio.to_thread(process.wait, STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        await asyncio.to_thread(process.wait)


def _logs(state: Path) -> str:
    return "\n".join(path.read_text("utf-8") for path in state.glob("*.log"))


async def _serving(state: Path, processes: Sequence[subprocess.Popen[bytes]]) -> str:
    """The address of the cache of a state folder, once it is ready."""
    run_file = state / "run" / "cache.json"
    request = health_pb2.HealthCheckRequest(service="antiphon.cache.v1.CacheService")
    while True:
        if any(process.poll() is not None for process in processes):
            raise RuntimeError(f"a service ended:\n{_logs(state)}")
        if run_file.exists():
            address = str(json.loads(run_file.read_text("utf-8"))["address"])
            async with grpc.aio.insecure_channel(address) as channel:
                answer = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=STOP_SECONDS)
            if answer.status == health_pb2.HealthCheckResponse.SERVING:
                return address
        await asyncio.sleep(POLL_SECONDS)
