"""An entry that comes from outside is taken as it is, or refused with the field that is wrong; never anything else."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from antiphon.cache.v1 import transfer_pb2 as pb
from antiphon.llm.v1 import llm_pb2
from services.cache.entry import Source
from services.cache.exporting_proto import write_portable
from services.cache.importing_proto import read_lines, read_portable
from services.cache.origin import Origin
from services.cache.portable import Portable
from services.cache.review import FeedbackSource, Quarantine, Review, Said
from services.cache.values import Vector
from services.chassis.errors import InvalidRequest
from services.llm.fields import is_blank
from tests.unit.cache.cache_parts import answer

DIM = 8
TIMES = st.integers(0, 4_000_000_000_000_000)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NAME = st.text("abc.:-_", min_size=1, max_size=20)


def unit(seed: int) -> Vector:
    vector = np.random.default_rng(seed).standard_normal(DIM)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


SAID = st.builds(Said, st.sampled_from(FeedbackSource), NAME, NAME, st.booleans(), st.booleans(), TIMES)
REVIEWS = st.builds(
    Review,
    st.lists(SAID, max_size=3).map(tuple),
    st.none() | st.builds(Quarantine, st.sampled_from(["operator", "judge", "audit", "users"]), st.booleans(), TIMES),
)


@st.composite
def portables(draw: Any) -> Portable:
    parts = tuple(draw(st.lists(TEXT, min_size=1, max_size=3)))
    if all(map(is_blank, parts)):
        parts = (*parts, "a question")
    vector = draw(st.none() | st.integers(0, 99).map(unit))
    return Portable(
        namespace=draw(NAME),
        question="\n".join(parts),
        origin=Origin(
            model=draw(NAME),
            digest=draw(st.binary(min_size=32, max_size=32)),
            author=draw(NAME | st.just("")),
            in_words=draw(st.booleans()),
            follows=draw(st.booleans()),
            lengths=tuple(map(len, parts)) if len(parts) > 1 else (),
        ),
        version=2,
        answer=answer(draw(TEXT), created_at=draw(TIMES) / 1e6),
        created_us=draw(TIMES),
        expires_us=draw(TIMES),
        tags=tuple(draw(st.lists(NAME, max_size=3, unique=True))),
        sources=tuple(sorted(draw(st.dictionaries(NAME, NAME, max_size=3)).items())),
        source=draw(st.sampled_from(Source)),
        writer=draw(NAME | st.just("")),
        decided_by=draw(NAME | st.just("")),
        review=draw(REVIEWS),
        vector=vector,
        embedder="" if vector is None else "known_1",
    )


@given(portables())
def test_what_is_written_is_read_as_it_was(entry: Portable) -> None:
    read = read_portable(pb.PortableEntry.FromString(write_portable(entry).SerializeToString()))
    for name in Portable.__slots__:
        given_, found = getattr(entry, name), getattr(read, name)
        assert np.array_equal(given_, found) if isinstance(given_, np.ndarray) else given_ == found, name


@given(portables(), st.data())
async def test_any_bytes_are_read_or_refused_with_a_field(entry: Portable, data: st.DataObject) -> None:
    raw = bytearray(write_portable(entry).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    try:
        damaged = pb.PortableEntry.FromString(bytes(raw))
    except DecodeError:
        return
    (line,) = await read_lines([pb.ImportLine(entry=damaged)], 6)
    assert line.number == 7
    assert isinstance(line.entry, Portable) or line.entry.field


def sound() -> pb.PortableEntry:
    entry = pb.PortableEntry(
        namespace="n",
        model="m",
        question=["Q?"],
        context_digest=bytes(32),
        address_version=2,
        answer=llm_pb2.Answer(text="A", finish_reason=llm_pb2.FINISH_REASON_STOP, model="m"),
    )
    entry.create_time.seconds, entry.expire_time.seconds = 1, 2
    entry.embedding.embedder, entry.embedding.dim = "e", DIM
    entry.embedding.vector = unit(1).tobytes()
    return entry


def floats(*values: float) -> bytes:
    return np.array(values, "<f4").tobytes()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"namespace": ""}, "namespace"),
        ({"namespace": "not allowed!"}, "namespace"),
        ({"model": ""}, "model"),
        ({"model": "m" * 1_025}, "model"),
        ({"question": []}, "question"),
        ({"question": ["\u200b", " "]}, "question"),
        ({"question": ["a"] * 257}, "question"),
        ({"context_digest": bytes(31)}, "context_digest"),
        ({"answer": None}, "answer"),
        ({"create_time": None}, "create_time"),
        ({"tags": ["t"] * 17}, "tags"),
        ({"source_versions": {"": "v"}}, "source_versions"),
        ({"source": "other"}, "source"),
        ({"writer": "not an id"}, "writer"),
        ({"verdicts": [pb.PortableVerdict(source="nobody")]}, "verdicts[0].source"),
        ({"verdicts": [pb.PortableVerdict(source="judge")]}, "verdicts[0].time"),
        ({"verdicts": [pb.PortableVerdict(source="judge")] * 33}, "verdicts"),
        ({"quarantine": pb.PortableQuarantine(rule="user")}, "quarantine.rule"),
        ({"quarantine": pb.PortableQuarantine(rule="users")}, "quarantine.since"),
        ({"embedding": pb.PortableVector(vector=floats(1.0), dim=1)}, "embedding.embedder"),
        ({"embedding": pb.PortableVector(embedder="e", vector=floats(1.0), dim=2)}, "embedding.vector"),
        ({"embedding": pb.PortableVector(embedder="e", vector=floats(0.0, 0.0), dim=2)}, "embedding.vector"),
        ({"embedding": pb.PortableVector(embedder="e", vector=floats(float("nan")), dim=1)}, "embedding.vector"),
        ({"embedding": pb.PortableVector(embedder="e", vector=floats(float("inf")), dim=1)}, "embedding.vector"),
        ({"embedding": pb.PortableVector(embedder="e", vector=floats(3e38, 3e38), dim=2)}, "embedding.vector"),
    ],
)
def test_a_wrong_field_is_named(change: dict[str, Any], field: str) -> None:
    entry = sound()
    read_portable(entry)
    for name, value in change.items():
        entry.ClearField(name)  # type: ignore[arg-type]
        if value is not None:
            entry.MergeFrom(pb.PortableEntry(**{name: value}))
    with pytest.raises(InvalidRequest) as caught:
        read_portable(entry)
    assert caught.value.field == field
