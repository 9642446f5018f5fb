"""A plaintext port with nothing but `grpc.health.v1`, for probes that can neither speak TLS nor show a certificate."""

from __future__ import annotations

import grpc.aio

from services.chassis import health
from services.chassis.handler import bind
from services.chassis.limits import Limits
from services.chassis.settings_model import SettingsError
from services.chassis.telemetry import Telemetry

VARIABLE = "ANTIPHON_HEALTH_LISTEN"

DEFAULT_LISTEN = "127.0.0.1:0"
"""Where it is if no setting says otherwise and the other ports speak TLS."""


class HealthPort:
    """Answers for the `Health` of another server."""

    def __init__(
        self, checks: health.Health, telemetry: Telemetry, listen: str, options: list[tuple[str, int]]
    ) -> None:
        """`SettingsError` if the address cannot be had."""
        limits = Limits(1, health.PLACES)
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=limits.total)
        bind(self._server, checks, health.DESCRIPTOR, telemetry=telemetry, limits=limits)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError:
            raise SettingsError(VARIABLE, "the address cannot be listened on; is it in use?") from None
        self.address = f"{listen.rpartition(':')[0]}:{port}"

    async def start(self) -> None:
        """Answer from now on."""
        await self._server.start()

    async def stop(self) -> None:
        """Close at once: when a server stops, the last word of its health has been said."""
        await self._server.stop(None)
