"""Holds newly arrived calls in the moment in which a server says goodbye, so that none of them is lost.

gRPC's shutdown fails calls that have reached the server but not yet a handler, and those on the wire. A caller that
waits for an answer sends no further call, so once all arriving calls are held, the wire is soon quiet; then the server
announces its end (GOAWAY), and only then the held calls go on. Their callers have the announcement before the answers,
and send what follows elsewhere.
"""

from __future__ import annotations

import asyncio

QUIET_SECONDS = 0.02
"""Without an arrival for this long nothing is on the wire any more; many times a round trip within a cluster."""

PATIENCE_SECONDS = 0.25
"""Callers who send without waiting for answers never fall quiet; they are not waited for longer."""


class Door:
    """Open until it is closed, once. For use on one event loop."""

    def __init__(self) -> None:
        self.closed = False
        self._opened = asyncio.Event()
        self._arrived = asyncio.Event()

    async def hold(self) -> None:
        """Called by a call that finds the door closed: wait until it is opened."""
        self._arrived.set()
        await self._opened.wait()

    async def close(self, *, quiet: float = QUIET_SECONDS, patience: float = PATIENCE_SECONDS) -> None:
        """Hold arriving calls; return when none has arrived for `quiet` seconds, at the latest after `patience`."""
        self.closed = True
        try:
            async with asyncio.timeout(patience):
                while await self._next_arrival(quiet):
                    pass
        except TimeoutError:
            return

    def open(self) -> None:
        """Let the held calls go on."""
        self.closed = False
        self._opened.set()

    async def _next_arrival(self, within: float) -> bool:
        self._arrived.clear()
        limit = asyncio.timeout(within)
        try:
            async with limit:
                await self._arrived.wait()
        except TimeoutError:
            if limit.expired():
                return False
            raise
        return True
