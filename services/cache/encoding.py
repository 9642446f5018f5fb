"""An unambiguous encoding of plain values for hashing: two values have the same bytes only if they are equal.

Every item is a tag, a length, and that many bytes or items. Dataclasses are encoded through their declared fields, so
a field that is added later takes part by itself; a forgotten one would let answers cross scopes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
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


def _append(out: bytearray, value: object) -> None:  # noqa: PLR0912 -- one branch per kind of value
    if isinstance(value, str):
        _chunk(out, b"s", value.encode())
    elif value is None:
        out += b"n"
    elif isinstance(value, bool):
        out += b"t" if value else b"f"
    elif isinstance(value, int):
        _chunk(out, b"i", str(value).encode())
    elif isinstance(value, float):
        if value.is_integer():
            _chunk(out, b"i", str(int(value)).encode())
        else:
            out += b"d" + struct.pack(">d", value)
    elif isinstance(value, bytes):
        _chunk(out, b"b", value)
    elif isinstance(value, Mapping):
        _head(out, b"m", len(value))
        for key in sorted(value):
            _append(out, key)
            _append(out, value[key])
    elif isinstance(value, Sequence):
        _head(out, b"l", len(value))
        for item in value:
            _append(out, item)
    elif is_dataclass(value) and not isinstance(value, type):
        name, names = _layout(type(value))
        _chunk(out, b"o", name)
        _head(out, b"l", len(names))
        for field in names:
            _append(out, getattr(value, field))
    else:
        raise TypeError(f"{type(value).__name__} has no encoding")


def _head(out: bytearray, tag: bytes, count: int) -> None:
    out += tag
    out += count.to_bytes(8, "big")


def _chunk(out: bytearray, tag: bytes, content: bytes) -> None:
    _head(out, tag, len(content))
    out += content


@lru_cache(maxsize=64)
def _layout(kind: type[Any]) -> tuple[bytes, tuple[str, ...]]:
    return kind.__name__.encode(), tuple(field.name for field in fields(kind))
