"""The probe as a process of its own: `python -m tests.integration.chassis.probe_process`.

`ANTIPHON_CACHE_HOLD` makes Wait last until the process is asked to stop and that many seconds longer;
`ANTIPHON_CACHE_START` lets the start hang or crash.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any, Literal

from pydantic import Field

from services.chassis.process import Process, run
from services.chassis.server import Server
from services.chassis.settings import SuiteSettings
from tests.integration.chassis.probe import PROBE, TABLE, Probe


class ProbeSettings(SuiteSettings):
    """Loaded as the service `cache`, whose listen address it uses."""

    hold: float = Field(default=0.0, description="Seconds that Wait lasts after the signal.")
    start: Literal["well", "hang", "crash"] = Field(default="well", description="How the start goes.")


def say(line: str) -> None:
    """Tell the test how far this process is."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def main(settings: ProbeSettings, process: Process) -> None:
    """Serve the probe until asked to stop."""
    if settings.start == "hang":
        say("starting")
        await asyncio.Event().wait()
    if settings.start == "crash":
        raise ValueError("the prompt nobody may see")

    async def held(request: Any, _call: Any) -> Any:
        say("held")
        await process.shutdown.requested.wait()
        await asyncio.sleep(settings.hold)
        return request

    probe = Probe()
    probe.wait = held
    server = Server(
        "cache",
        settings,
        process,
        listen=settings.cache_listen,
        variable="ANTIPHON_CACHE_LISTEN",
        limits={"waiters": 100},
        table=TABLE,
    )
    server.add(probe, PROBE)
    await server.start()
    server.set_ready(True)
    say("SERVING")
    await server.serve()


if __name__ == "__main__":
    sys.exit(run(main, ProbeSettings, "cache"))
