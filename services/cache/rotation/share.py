"""How much of the time embedding may run: after each piece of work comes a rest that is in proportion to it."""

from __future__ import annotations

import asyncio


class Share:
    """Of the time, in (0, 1]; for one event loop."""

    def __init__(self, value: float) -> None:
        self._value = value
        self._changed = asyncio.Event()

    def set(self, value: float) -> None:
        """From now on, also for whoever rests."""
        if value != self._value:
            self._value = value
            self._changed.set()
            self._changed = asyncio.Event()

    async def rest(self, worked: float) -> None:
        """Rest after `worked` seconds of work."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        while (left := begun + worked * (1.0 / self._value - 1.0) - loop.time()) > 0.0:
            try:
                async with asyncio.timeout(left):
                    await self._changed.wait()
            except TimeoutError:
                return
