"""Enum numbers that this version does not know are found, wherever it matters."""

from __future__ import annotations

from google.protobuf.struct_pb2 import Struct

from antiphon.cache.v1 import cache_pb2
from antiphon.completion.v1 import completion_pb2
from services.chassis.unknown_enums import finder


def test_json_is_not_looked_through() -> None:
    # Its enum is that of null; a message holds millions of values, and reading them refuses what is too many.
    assert finder(Struct.DESCRIPTOR) is None
    request = completion_pb2.CompleteRequest()
    request.options.extra["x"] = 1
    request.options.extra.fields["x"].null_value = 7  # type: ignore[assignment]
    find = finder(completion_pb2.CompleteRequest.DESCRIPTOR)
    assert find is not None
    assert find(request) is None
    request.cache.mode = 99  # type: ignore[assignment]
    assert find(request) == "cache.mode"


def test_a_field_can_be_left_to_others() -> None:
    assert finder(cache_pb2.BatchLookupRequest.DESCRIPTOR, besides="lookups") is None
    find = finder(cache_pb2.BatchLookupRequest.DESCRIPTOR)
    assert find is not None
    request = cache_pb2.BatchLookupRequest(lookups=[cache_pb2.LookupRequest(), cache_pb2.LookupRequest()])
    request.lookups[1].policy.mode = 99  # type: ignore[assignment]
    assert find(request) == "lookups[1].policy.mode"
