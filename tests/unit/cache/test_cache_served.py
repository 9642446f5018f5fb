"""What is written once of an entry is what would be written each time."""

from __future__ import annotations

import dataclasses

import pytest
from google.protobuf.empty_pb2 import Empty
from google.protobuf.unknown_fields import UnknownFieldSet

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache import served_proto
from services.cache.entry import Entry, Source
from services.cache.proto import write_served, write_served_decision
from services.cache.served_proto import KEPT, MOST_BYTES, RecentlyServed
from tests.unit.cache.cache_parts import answer


def entry(text: str = "Forty-two.", **changes: object) -> Entry:
    made = Entry(
        id="a",
        tenant="t",
        namespace="n",
        scope="s",
        key="k",
        question="What is it?",
        answer=answer(text),
        created_us=1,
        updated_us=1,
        expires_us=1_000_000,
        ver=1,
        epoch=0,
        source=Source.PUT,
    )
    return dataclasses.replace(made, **changes)  # type: ignore[arg-type]


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """The entries that are written, in order."""
    entries: list[Entry] = []

    def write(one: Entry) -> pb.LookupResponse:
        entries.append(one)
        return write_served(one)

    monkeypatch.setattr(served_proto, "write_served", write)
    return entries


def looked_up() -> pb.LookupResponse:
    """What a lookup tells besides."""
    return pb.LookupResponse(
        outcome=pb.OUTCOME_SEMANTIC,
        lookup_id="l",
        audit_id="a",
        decision=pb.Decision(similarity=0.9, p_wrong=0.01, decision_version="v"),
        fill=pb.Fill(in_progress_lease_id="f"),
    )


def whole(one: Entry) -> pb.LookupResponse:
    """All of it, written by itself."""
    message = looked_up()
    message.MergeFrom(write_served(one))
    message.decision.MergeFrom(write_served_decision(one))
    return message


def numbers(raw: bytes) -> list[int]:
    """Of the fields on the wire, as often as they come."""
    return [field.field_number for field in UnknownFieldSet(Empty.FromString(raw))]


def test_an_entry_is_written_once_and_each_of_its_versions_anew(written: list[Entry]) -> None:
    served = RecentlyServed()
    first = entry(ver=1)
    later = entry(ver=2, expires_us=first.expires_us + 1)
    other = entry("Another answer.", ver=3)
    for one in (first, first, later, later, first, other, other):
        assert pb.LookupResponse.FromString(served.completed(looked_up(), one)) == whole(one)
        response = looked_up()
        served.complete(response, one)
        assert response == whole(one)
    assert written == [first, later, other]


def test_no_field_comes_twice_which_not_every_reader_merges() -> None:
    raw = RecentlyServed().completed(looked_up(), entry())
    assert sorted(numbers(raw)) == sorted(set(numbers(raw))) == sorted(numbers(whole(entry()).SerializeToString()))


def test_few_and_short_ones_are_kept(written: list[Entry]) -> None:
    served = RecentlyServed()
    long = entry("x" * MOST_BYTES)
    for _ in range(2):
        served.completed(looked_up(), long)
    assert written == [long, long]
    for ver in range(1, KEPT + 2):
        served.completed(looked_up(), entry(ver=ver))
    written.clear()
    served.completed(looked_up(), entry(ver=KEPT + 1))
    assert written == []
    served.completed(looked_up(), entry(ver=1))
    assert len(written) == 1
