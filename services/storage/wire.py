"""Translation between the adapter's values and Qdrant's gRPC messages.

Vectors cross as the bytes of their packed field (protobuf wire format: tag, length, little-endian f32): a copy of
memory instead of one Python float per element, which is what makes reading a whole collection fast.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from qdrant_client import grpc as pb

from services.storage.filters import AllOf, AnyOf, Between, Equals, Filter, HasId, Not, OneOf
from services.storage.values import VECTOR_NAME, Index, IndexKind, Json, Point, Record

_PACKED_FIELD_1 = b"\x0a"
"""Tag of field 1, wire type LEN: `DenseVector.data`."""

WITH_ALL = pb.WithPayloadSelector(enable=True)
WITH_VECTOR = pb.WithVectorsSelector(include=pb.VectorsSelector(names=[VECTOR_NAME]))
WITHOUT_VECTOR = pb.WithVectorsSelector(enable=False)


def with_fields(fields: Sequence[str]) -> pb.WithPayloadSelector:
    """Only these fields of each payload."""
    return pb.WithPayloadSelector(include=pb.PayloadIncludeSelector(fields=fields))


def point_id(text: str) -> pb.PointId:
    return pb.PointId(uuid=text)


def id_text(message: pb.PointId) -> str:
    """The id as text; a numeric one, which Antiphon never writes, as its digits."""
    return message.uuid if message.HasField("uuid") else str(message.num)


def selector(ids: Sequence[str]) -> pb.PointsSelector:
    return pb.PointsSelector(points=pb.PointsIdsList(ids=[point_id(text) for text in ids]))


def payload_message(payload: Mapping[str, Json]) -> dict[str, pb.Value]:
    """A payload's map; raises ValueError for what JSON cannot hold (NaN, Inf, other types)."""
    fields: dict[str, pb.Value] = {}
    for key, value in payload.items():
        fields[key] = pb.Value()
        set_value(fields[key], value)
    return fields


def set_value(message: pb.Value, value: Json) -> None:
    """Let the empty `message` hold `value`; raises ValueError for what JSON cannot hold."""
    match value:
        case str():
            message.string_value = value
        case bool():  # before int: True is an int in Python and would come back as 1
            message.bool_value = value
        case int():
            message.integer_value = value
        case float() if math.isfinite(value):
            message.double_value = value
        case None:
            message.null_value = pb.NULL_VALUE
        case dict():
            message.struct_value.SetInParent()
            fields = message.struct_value.fields
            for key, inner in value.items():
                set_value(fields[key], inner)
        case list():
            message.list_value.SetInParent()
            values = message.list_value.values
            for item in value:
                set_value(values.add(), item)
        case _:
            raise ValueError(f"a payload cannot hold this {type(value).__name__}")


def payload_values(fields: Mapping[str, pb.Value]) -> dict[str, Json]:
    return {key: value_of(value) for key, value in fields.items()}


def value_of(message: pb.Value) -> Json:
    kind = message.WhichOneof("kind")
    if kind == "string_value":  # most of them are text
        return message.string_value
    if kind == "struct_value":
        return payload_values(message.struct_value.fields)
    if kind == "list_value":
        return [value_of(item) for item in message.list_value.values]
    if kind == "null_value":
        return None
    if kind is None:
        raise ValueError("a payload value is empty")
    scalar: Json = getattr(message, kind)
    return scalar


def dense_message(vector: NDArray[np.float32]) -> pb.DenseVector:
    """A vector of f32; raises ValueError unless it is one-dimensional and finite."""
    if vector.ndim != 1 or vector.dtype != np.float32:
        raise ValueError(f"a vector must be one-dimensional float32, not {vector.ndim}-dimensional {vector.dtype}")
    if not np.isfinite(vector).all():
        raise ValueError("a vector must not hold NaN or infinity")
    data = vector.astype("<f4", copy=False).tobytes()
    return pb.DenseVector.FromString(_PACKED_FIELD_1 + varint(len(data)) + data)


def dense_array(message: pb.VectorOutput) -> NDArray[np.float32]:
    """A vector as a read-only array over the message's own bytes."""
    # Servers before 1.16 fill the deprecated field 1 of VectorOutput, which has the layout of DenseVector.
    holder = message.dense if message.HasField("dense") else message
    size = len(holder.data)
    packed = holder.SerializeToString()
    return np.frombuffer(packed, dtype="<f4", count=size, offset=len(packed) - 4 * size)


def varint(number: int) -> bytes:
    """A length as protobuf writes it (base 128, low groups first)."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def point_message(point: Point) -> pb.PointStruct:
    vectors: dict[str, pb.Vector] = {}
    if point.vector is not None:
        vectors[VECTOR_NAME] = pb.Vector(dense=dense_message(point.vector))
    return pb.PointStruct(
        id=point_id(point.id),
        payload=payload_message(point.payload),
        vectors=pb.Vectors(vectors=pb.NamedVectors(vectors=vectors)),
    )


def record(message: pb.RetrievedPoint) -> Record:
    vector: NDArray[np.float32] | None = None
    if message.HasField("vectors"):
        named = message.vectors.vectors.vectors
        if VECTOR_NAME in named:
            vector = dense_array(named[VECTOR_NAME])
    return Record(id_text(message.id), vector, payload_values(message.payload))


def filter_message(condition: Filter | None) -> pb.Filter | None:
    """The message of a whole filter; None (no filter) stays None."""
    if condition is None:
        return None
    if isinstance(condition, AllOf):
        return pb.Filter(must=[condition_message(part) for part in condition.filters])
    return pb.Filter(must=[condition_message(condition)])


def condition_message(condition: Filter) -> pb.Condition:
    match condition:
        case Equals(key, value):
            message = _match(key, _equality(value))
        case OneOf(key, values):
            message = _match(key, _membership(values))
        case Between(key, gte, gt, lt, lte):
            bounds = pb.Range(gte=gte, gt=gt, lt=lt, lte=lte)
            message = pb.Condition(field=pb.FieldCondition(key=key, range=bounds))
        case HasId(ids):
            message = pb.Condition(has_id=pb.HasIdCondition(has_id=[point_id(text) for text in ids]))
        case AllOf(filters):
            message = pb.Condition(filter=pb.Filter(must=[condition_message(part) for part in filters]))
        case AnyOf(filters) if filters:
            message = pb.Condition(filter=pb.Filter(should=[condition_message(part) for part in filters]))
        case AnyOf():  # an empty `should` would match everything; no id is in the empty set
            message = pb.Condition(has_id=pb.HasIdCondition())
        case Not(part):
            message = pb.Condition(filter=pb.Filter(must_not=[condition_message(part)]))
    return message


def _membership(values: tuple[str, ...] | tuple[int, ...]) -> pb.Match:
    strings = [value for value in values if isinstance(value, str)]
    integers = [value for value in values if not isinstance(value, str)]
    if integers:
        return pb.Match(integers=pb.RepeatedIntegers(integers=integers))
    return pb.Match(keywords=pb.RepeatedStrings(strings=strings))


def _equality(value: str | int) -> pb.Match:
    return pb.Match(integer=value) if isinstance(value, int) else pb.Match(keyword=value)


def _match(key: str, match: pb.Match) -> pb.Condition:
    return pb.Condition(field=pb.FieldCondition(key=key, match=match))


def index_parameters(index: Index) -> tuple[pb.FieldType.ValueType, pb.PayloadIndexParams | None]:
    """The field type and parameters that create `index`."""
    if index.kind is IndexKind.INTEGER:
        integer = pb.IntegerIndexParams(lookup=True, range=True)
        return pb.FieldType.FieldTypeInteger, pb.PayloadIndexParams(integer_index_params=integer)
    if index.kind is IndexKind.TENANT:
        tenant = pb.KeywordIndexParams(is_tenant=True)
        return pb.FieldType.FieldTypeKeyword, pb.PayloadIndexParams(keyword_index_params=tenant)
    if index.kind is IndexKind.FLOAT:
        return pb.FieldType.FieldTypeFloat, None
    return pb.FieldType.FieldTypeKeyword, None


SCHEMA_TYPES: Mapping[IndexKind, int] = {
    IndexKind.KEYWORD: pb.PayloadSchemaType.Keyword,
    IndexKind.TENANT: pb.PayloadSchemaType.Keyword,
    IndexKind.INTEGER: pb.PayloadSchemaType.Integer,
    IndexKind.FLOAT: pb.PayloadSchemaType.Float,
}
"""How a server reports an index of each kind."""
