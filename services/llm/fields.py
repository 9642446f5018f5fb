"""What is wrong with a field of a request, as an error that names it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from services.chassis.errors import InvalidRequest, Reason

if TYPE_CHECKING:
    from google.protobuf.message import Message as ProtoMessage

_BLANK = re.compile(
    r"[\s\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f\u202a-\u202e"
    r"\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]*"
)
"""White space, and Unicode's categories Cc and Cf. A set in C: sixteen megabytes of them are looked through at once."""


def is_blank(text: str) -> bool:
    """Whether a reader sees nothing: only white space, control and format characters (a zero-width space, for one)."""
    return _BLANK.fullmatch(text) is not None


def missing(field: str, what: str) -> InvalidRequest:
    """Return the error for a required field that is absent."""
    return InvalidRequest(f"{field}: {what}", reason=Reason.MISSING_FIELD, field=field)


def invalid(field: str, what: str) -> InvalidRequest:
    """Return the error for a field with a value that is not allowed."""
    return InvalidRequest(f"{field}: {what}", reason=Reason.INVALID_FIELD, field=field)


def refuse_unsupported(message: ProtoMessage, fields: Sequence[str], path: str = "") -> None:
    """Raise for each of `fields` that is set on `message`: part of the contract, but not honoured by this server."""
    present = {descriptor.name for descriptor, _ in message.ListFields()}
    for name in fields:
        if name in present:
            field = f"{path}.{name}" if path else name
            raise InvalidRequest(f"{field}: not supported by this server", reason=Reason.UNSUPPORTED_FIELD, field=field)
