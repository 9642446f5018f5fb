"""From the bytes of a call to its message."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from services.chassis.errors import InvalidRequest, Reason

M = TypeVar("M", bound=Message)


def parse(kind: type[M], raw: bytes) -> M:
    """The message, of which unknown enum numbers are not refused yet. Raises InvalidRequest (MALFORMED_MESSAGE)."""
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise InvalidRequest(
            f"the bytes are not a {kind.DESCRIPTOR.full_name}", reason=Reason.MALFORMED_MESSAGE
        ) from None
