"""What a handler knows about the call it serves, beyond the request."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from services.chassis.auth.values import ANYONE, Caller
from services.chassis.auth.verifier import Metadata
from services.chassis.deadline import Deadline


class PeerGone(Exception):
    """gRPC could not send, as the caller has gone; the cause is gRPC's own exception."""


REQUEST_ID_HEADER = "x-request-id"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")


class Call:
    """One call in progress. Everything that not every handler needs is computed when it is asked for."""

    def __init__(self, context: Any, deadline: Deadline, caller: Caller = ANYONE) -> None:
        self._context = context
        self.deadline = deadline
        self.caller = caller
        self.cancelled = False
        """True once the caller has gone or its deadline has passed; for tasks that outlive the handler's own."""
        self.trailing: list[tuple[str, str | bytes]] = []
        self.ended = False
        """True once the call has its status; tasks that the handler left behind may still hold the call."""
        self._committed = False
        self._sent: Metadata | None = None

    @property
    def sent(self) -> Metadata:
        """All metadata that came with the call, in order."""
        if self._sent is None:  # every call asks, and `cached_property` would take a lock
            self._sent = self._context.invocation_metadata() or ()
        return self._sent

    @cached_property
    def metadata(self) -> Mapping[str, str | bytes]:
        """The caller's metadata, keys in lower case; of a repeated key the last value."""
        return dict(self.sent)

    @cached_property
    def request_id(self) -> str:
        """The caller's `x-request-id` if it is one (at most 128 plain characters), else a new one."""
        given = self.metadata.get(REQUEST_ID_HEADER)
        if isinstance(given, str) and _REQUEST_ID.fullmatch(given):
            return given
        return uuid.uuid4().hex

    @cached_property
    def peer(self) -> str:
        """Where the caller is connected from, `ipv4:127.0.0.1:54321`; empty if first asked after the call ended."""
        # gRPC frees the call at its end and then looks through a null pointer.
        return "" if self.ended else str(self._context.peer())

    async def commit(self) -> None:
        """Send the response's headers now: gRPC repeats no call that has some (gRFC A6), whatever becomes of it.

        For what must not be done twice, as soon as it is begun. Repeating it changes nothing.
        """
        if self._committed:
            return
        self._committed = True
        try:
            await self._context.send_initial_metadata(())
        except Exception as error:
            raise PeerGone from error

    def add_trailing(self, key: str, value: str | bytes) -> None:
        """Send metadata with the final status, whatever it will be (`grpc-retry-pushback-ms`, for one)."""
        self.trailing.append((key, value))
