"""Between `google.protobuf.Struct` and JSON objects."""

from __future__ import annotations

import math
from collections.abc import Mapping

from google.protobuf import struct_pb2

from services.llm.fields import invalid
from services.llm.values import Json

MAX_VALUES = 8_192
"""In the JSON objects of one field, nested ones too: a megabyte holds a hundred thousand, which take a second."""


class Values:
    """How many a field may still have: counted before they are read, so that too many cost nothing."""

    def __init__(self) -> None:
        self._left = MAX_VALUES

    def expect(self, count: int, path: str) -> None:
        """Count what comes; raises InvalidRequest if that is too many."""
        self._left -= count
        if self._left < 0:
            raise invalid(path, f"at most {MAX_VALUES} values in all")


def struct_to_json(struct: struct_pb2.Struct, path: str) -> dict[str, Json]:
    """Return the struct as a JSON object; whole numbers come back as `int`, as a JSON parser would give them."""
    return read_struct(struct, path, Values())


def json_to_struct(value: Mapping[str, Json]) -> struct_pb2.Struct:
    """Return a JSON object as a struct."""
    struct = struct_pb2.Struct()
    struct.update(value)
    return struct


def read_struct(struct: struct_pb2.Struct, path: str, values: Values) -> dict[str, Json]:
    """As `struct_to_json`, one of several that share `values`."""
    values.expect(len(struct.fields), path)
    return {key: _value_to_json(value, path, values) for key, value in struct.fields.items()}


def _value_to_json(value: struct_pb2.Value, path: str, values: Values) -> Json:
    match value.WhichOneof("kind"):
        case "number_value":
            number = value.number_value
            if not math.isfinite(number):
                raise invalid(path, "numbers must be finite")
            # A struct has only doubles; model servers insist on whole numbers where JSON Schema says integer.
            return int(number) if number.is_integer() and abs(number) < 2**53 else number
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return read_struct(value.struct_value, path, values)
        case "list_value":
            values.expect(len(value.list_value.values), path)
            return [_value_to_json(v, path, values) for v in value.list_value.values]
        case _:
            return None
