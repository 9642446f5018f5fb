"""An unambiguous encoding of plain values for hashing: two values have the same bytes only if they are equal.

Every item is a tag, a length, and that many bytes or items. Dataclasses are encoded through their declared fields, so
a field that is added later takes part by itself; a forgotten one would let answers cross scopes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import lru_cache
from typing import Any


def encode(value: object) -> bytes:
    """The bytes of `value`: None, truth values, numbers, text, bytes, sequences, mappings, dataclasses of these.

    Mappings are encoded by sorted keys. A whole float equals the integer, as in JSON. `TypeError` for anything else.
    """
    out = bytearray()
    _append(out, value)
    return bytes(out)


def _append(out: bytearray, value: object) -> None:
    # Every lookup encodes some forty values: kinds of sequences and mappings are told apart once for each type.
    kind: type[Any] = type(value)
    _way(kind)(out, value)  # type: ignore[arg-type]  # types are hashable


_Way = Callable[[bytearray, Any], None]


@lru_cache(maxsize=256)
def _way(kind: type[Any]) -> _Way:  # noqa: PLR0911 -- one for each kind of value
    """How values of a type are encoded."""
    if issubclass(kind, str):
        return _text
    if kind is type(None):
        return _nothing
    if issubclass(kind, bool):
        return _truth
    if issubclass(kind, int):
        return _whole
    if issubclass(kind, float):
        return _float
    if issubclass(kind, bytes):
        return _bytes
    if issubclass(kind, Mapping):
        return _mapping
    if issubclass(kind, Sequence):
        return _sequence
    if is_dataclass(kind):
        return _record(kind)
    raise TypeError(f"{kind.__name__} has no encoding")


def _text(out: bytearray, value: str) -> None:
    out += _chunk(b"s", value.encode())


def _nothing(out: bytearray, _: None) -> None:
    out += b"n"


def _truth(out: bytearray, value: bool) -> None:
    out += b"t" if value else b"f"


def _whole(out: bytearray, value: int) -> None:
    out += _chunk(b"i", str(int(value)).encode())


def _float(out: bytearray, value: float) -> None:
    if value.is_integer():
        _whole(out, int(value))
    else:
        out += b"d" + struct.pack(">d", value)


def _bytes(out: bytearray, value: bytes) -> None:
    out += _chunk(b"b", value)


def _mapping(out: bytearray, value: Mapping[Any, object]) -> None:
    out += _head(b"m", len(value))
    for key in sorted(value):
        _append(out, key)
        _append(out, value[key])


def _sequence(out: bytearray, value: Sequence[object]) -> None:
    out += _head(b"l", len(value))
    for item in value:
        _append(out, item)


def _record(kind: type[Any]) -> _Way:
    """The encoding of a dataclass: its name, and its declared fields in their order."""
    names = tuple(field.name for field in fields(kind))
    head = _chunk(b"o", kind.__name__.encode()) + _head(b"l", len(names))

    def append(out: bytearray, value: object) -> None:
        out += head
        for name in names:
            item = getattr(value, name)
            if item is None:
                out += b"n"
            else:
                _append(out, item)

    return append


def _head(tag: bytes, count: int) -> bytes:
    return tag + count.to_bytes(8, "big")


def _chunk(tag: bytes, content: bytes) -> bytes:
    return tag + len(content).to_bytes(8, "big") + content
