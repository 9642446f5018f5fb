"""The standard health service (`grpc.health.v1`) for `""`, `liveness`, `readiness` and every service of a server.

Written here because the one in `grpcio-health-checking` forgets all watchers of a name when one of them leaves, and
never ends a Watch, so that a single watcher keeps a draining server waiting for its whole grace period.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from grpc_health.v1 import health_pb2

from services.chassis.call import Call
from services.chassis.errors import NotFound, Reason, Unavailable
from services.chassis.handler import NO_DEADLINE, server_stream, unary

DESCRIPTOR = health_pb2.DESCRIPTOR.services_by_name["Health"]

CHECKS = "health"
WATCHES = "health_watch"
PLACES = {CHECKS: 64, WATCHES: 4096}
"""Places of their own: a server full of work is alive, and says so. Kubernetes and balancers need a few checks; every
connection of a client that balances keeps one watch open, and would take a server without a place for it to be ill."""

LIVENESS = "liveness"
READINESS = "readiness"

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """`liveness` is SERVING while the process can answer; others while it is ready, if nothing is wrong with them."""

    def __init__(self) -> None:
        self._names = {"", READINESS}
        self._wrong: set[str] = set()
        self._ready = False
        self._draining = False
        self._closed = False
        self._changed = asyncio.Event()

    def add(self, service: str) -> None:
        """Answer for this service, too."""
        self._names.add(service)

    def set_wrong(self, part: str, wrong: bool) -> None:
        """Answer for this name, too: NOT_SERVING while something is wrong there. The other names do not heed it."""
        if part not in self._names or wrong != (part in self._wrong):
            self._names.add(part)
            self._wrong = self._wrong | {part} if wrong else self._wrong - {part}
            self._wake()

    @property
    def ready(self) -> bool:
        """Whether callers are told to send work here."""
        return self._ready and not self._draining

    def set_ready(self, ready: bool) -> None:
        """Tell callers whether to send work here; has no effect while draining."""
        self._ready = ready
        self._wake()

    def drain(self) -> None:
        """Report NOT_SERVING from now on."""
        self._draining = True
        self._wake()

    def close(self) -> None:
        """End all watches, so that the server can stop."""
        self._closed = True
        self._wake()

    @unary(deadline=5.0, limit=CHECKS)
    async def Check(  # noqa: N802 -- the name in the contract
        self, request: health_pb2.HealthCheckRequest, _call: Call
    ) -> health_pb2.HealthCheckResponse:
        """The status of one name now."""
        status = self._status(request.service)
        if status is None:
            raise NotFound("this server has no such service", reason=Reason.INVALID_FIELD, field="service")
        return health_pb2.HealthCheckResponse(status=status)

    @server_stream(deadline=NO_DEADLINE, limit=WATCHES)
    async def Watch(  # noqa: N802 -- the name in the contract
        self, request: health_pb2.HealthCheckRequest, _call: Call
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        """The status of one name now and after every change; SERVICE_UNKNOWN for a name that is not served (yet)."""
        last: int | None = None
        while True:
            changed = self._changed
            known = self._status(request.service)
            status = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN if known is None else known
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
                last = status
            if self._closed:
                raise Unavailable("the server is stopping", reason=Reason.SHUTTING_DOWN)
            if changed is self._changed:
                await changed.wait()

    def _status(self, name: str) -> health_pb2.HealthCheckResponse.ServingStatus.ValueType | None:
        if name == LIVENESS:
            return _SERVING
        if name not in self._names:
            return None
        return _SERVING if self.ready and name not in self._wrong else _NOT_SERVING

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
