"""`python -m services.edgestore`: the embedded store's process.

Exit status as `services.chassis.process` says; 78 also when another process has the store folder open.
"""

from __future__ import annotations

import asyncio
import sys
from importlib.metadata import version

from services.chassis import runfile
from services.chassis.metrics_endpoint import MetricsEndpoint
from services.chassis.process import Process, run
from services.chassis.settings import SettingsError
from services.chassis.tls import ServerTls
from services.edgestore.lock import FolderInUseError, FolderLock
from services.edgestore.server import Server
from services.edgestore.settings import SERVICE, EdgestoreSettings
from services.edgestore.shards import Shards
from services.edgestore.token import load_token

FLUSH_SECONDS = 1.0
"""What a loss of power may cost at most, in time."""

GRACE_SECONDS = 5.0
"""For calls under way when the process is asked to stop; each takes milliseconds."""

STORE_FOLDER = "store"


async def main(settings: EdgestoreSettings, process: Process) -> None:
    """Serve until asked to stop; then answer what is under way, flush and close."""
    state_dir = settings.state_dir.absolute()
    try:
        lock = FolderLock(state_dir / STORE_FOLDER)
    except FolderInUseError as error:
        raise SettingsError("ANTIPHON_STATE_DIR", str(error)) from None
    except OSError as error:
        raise SettingsError("ANTIPHON_STATE_DIR", f"cannot be written to ({type(error).__name__})") from None
    with lock:
        token = load_token(state_dir, settings.edgestore_token_file)
        shards = Shards(state_dir / STORE_FOLDER, process.telemetry)
        try:
            await _serve(
                settings, process, Server(shards, token=token, version=_version(), telemetry=process.telemetry), shards
            )
        finally:
            clean = shards.close()
        if not clean:
            raise RuntimeError("the store could not be flushed; its log is replayed at the next start")


async def _serve(settings: EdgestoreSettings, process: Process, server: Server, shards: Shards) -> None:
    state_dir = settings.state_dir.absolute()
    metrics = await asyncio.to_thread(_metrics, settings, process)
    flushing = asyncio.create_task(_flush_regularly(shards))
    try:
        port = await _start(server, settings.listen)
        address = f"{settings.listen.rpartition(':')[0]}:{port}"
        runfile.write(state_dir, SERVICE, address=address, metrics=metrics.address if metrics else None)
        process.telemetry.log.info("serving", address=address, collections=len(shards.names()))
        await process.shutdown.wait()
    finally:
        flushing.cancel()
        await server.stop(GRACE_SECONDS)
        runfile.remove(state_dir, SERVICE)
        if metrics is not None:
            await asyncio.to_thread(metrics.close)
        await asyncio.wait([flushing])


async def _start(server: Server, listen: str) -> int:
    try:
        return await server.start(listen)
    except RuntimeError:
        raise SettingsError("ANTIPHON_EDGESTORE_LISTEN", "the address cannot be bound") from None


def _metrics(settings: EdgestoreSettings, process: Process) -> MetricsEndpoint | None:
    if settings.metrics_listen == "off":
        return None
    try:
        tls = ServerTls(settings, process.telemetry) if settings.tls_cert_file is not None else None
        return MetricsEndpoint(process.telemetry.registry, settings.metrics_listen, tls=tls)
    except OSError:
        raise SettingsError("ANTIPHON_METRICS_LISTEN", "the address cannot be bound") from None


async def _flush_regularly(shards: Shards) -> None:
    while True:
        await asyncio.sleep(FLUSH_SECONDS)
        shards.flush()


def _version() -> str:
    return version("qdrant-edge-py")


if __name__ == "__main__":
    sys.exit(run(main, EdgestoreSettings, SERVICE))
