"""What was deleted is given back, and what is left stays what it was."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest
from qdrant_edge import CountRequest, FieldCondition, Filter, IntegerIndexParams, Point, RangeFloat, UpdateOperation

from services.chassis.telemetry import Telemetry
from services.edgestore import shards as shards_module
from services.edgestore.shard import Schema, Shard, VectorParams
from services.edgestore.shards import Shards

NAME = "entries"
DIM = 64
LIVE = 1_000


def write(shard: Shard, first: int) -> None:
    """Points in the place of those before them, as many as there were."""
    ids = [str(UUID(int=number)) for number in range(1, first + LIVE + 1)]
    points = [
        Point(ids[number], {"v": [float(number)] * DIM}, {"text": "x" * 1_000, "ver": number})
        for number in range(first, first + LIVE)
    ]
    shard.update(UpdateOperation.upsert_points(points))
    if first:
        shard.update(UpdateOperation.delete_points(ids[first - LIVE : first]))


def check(shard: Shard, first: int) -> None:
    records = shard.edge.retrieve([str(UUID(int=number + 1)) for number in range(first + LIVE)], True, True)
    assert len(records) == LIVE
    for record in records:
        number = record.payload["ver"]
        assert (str(record.id), record.vector) == (str(UUID(int=number + 1)), {"v": [float(number)] * DIM})
    later = Filter(must=[FieldCondition("ver", range=RangeFloat(gte=first + LIVE // 2))])
    assert shard.edge.count(CountRequest(exact=True, filter=later)) == LIVE // 2


def size(folder: Path) -> int:
    segments = folder / NAME / "shard" / "segments"
    return sum(path.stat().st_blocks * 512 for path in segments.rglob("*") if path.is_file())


@pytest.fixture
def shards(tmp_path: Path) -> Shards:
    made = Shards(tmp_path, Telemetry("edgestore"))
    made.create(NAME, Schema({"v": VectorParams(DIM, "Dot")}))
    made.get(NAME).update(UpdateOperation.create_field_index("ver", IntegerIndexParams(lookup=True, range=True)))
    return made


def test_the_store_stays_as_small_as_what_is_left(shards: Shards, tmp_path: Path) -> None:
    sizes = []
    for first in range(0, 12 * LIVE, LIVE):
        write(shards.get(NAME), first)
        shards.flush()
        check(shards.get(NAME), first)
        sizes.append(size(tmp_path))
    assert max(sizes[6:]) <= max(sizes[:6])
    assert shards.close()
    again = Shards(tmp_path, Telemetry("edgestore"))
    check(again.get(NAME), 11 * LIVE)
    assert again.close()


def test_a_large_collection_waits_for_the_next_start(
    shards: Shards, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards_module, "TIDIED_WHILE_SERVING", LIVE - 1)
    for first in range(0, 8 * LIVE, LIVE):
        write(shards.get(NAME), first)
        shards.flush()
    before = size(tmp_path)
    assert shards.close()
    again = Shards(tmp_path, Telemetry("edgestore"))
    assert size(tmp_path) < before / 2
    check(again.get(NAME), 7 * LIVE)
    assert again.close()
