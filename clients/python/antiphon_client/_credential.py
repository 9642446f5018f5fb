"""The API key that a client sends with every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from antiphon_client.errors import CancelledError

ApiKey = str | Callable[[], str]
"""A key, or what returns the key of the moment and is asked before every call, so that keys can be exchanged."""

Metadata = Sequence[tuple[str, str | bytes]]
"""Metadata of a call: lower-case names; bytes only for names that end in `-bin`."""

_NAME = "authorization"


class Credential:
    """Makes the metadata of calls while their client is open; never shows the key."""

    def __init__(self, api_key: ApiKey | None) -> None:
        """`ValueError` for a key that cannot be sent; the same later for what a callable returns."""
        self._api_key = api_key
        self._closed = False
        if isinstance(api_key, str):
            _bearer(api_key)

    def close(self) -> None:
        """From now on no call is made."""
        self._closed = True

    def metadata(self, extra: Metadata = ()) -> tuple[tuple[str, str | bytes], ...]:
        """Return `extra`, with `authorization` before it unless it has one itself.

        Raises `CancelledError` once the client is closed: gRPC's own errors for that are of other kinds.
        """
        if self._closed:
            raise CancelledError("the client is closed")
        if self._api_key is None or any(name == _NAME for name, _ in extra):
            return tuple(extra)
        key = self._api_key if isinstance(self._api_key, str) else self._api_key()
        return ((_NAME, _bearer(key)), *extra)


def _bearer(api_key: str) -> str:
    """Outer white space goes: a key that was read from a file ends with a line break."""
    key = api_key.strip()
    if not key:
        raise ValueError("api_key is empty; leave it out to call without a credential")
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError("api_key is not an API key: it holds characters that cannot be sent")
    return f"Bearer {key}"
