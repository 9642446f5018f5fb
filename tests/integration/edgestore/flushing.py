"""`python -m tests.integration.edgestore.flushing FOLDER SEED`: writes with conditions and flushes, until it is killed.

Says on standard output, as JSON, what it has found, and then what is about to be written and what was acknowledged.
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from uuid import UUID

from qdrant_client import grpc as pb

from services.chassis.telemetry import Telemetry
from services.edgestore import shard as shard_module
from services.edgestore.points import PointsRpcs
from services.edgestore.shard import Schema, VectorParams
from services.edgestore.shards import Shards
from services.storage import AllOf, AnyOf, Between, HasId
from services.storage.wire import WITH_ALL, filter_message, payload_message, point_id, record

NAME = "entries"
IDS = [str(UUID(int=number)) for number in range(1, 41)]

Versions = dict[str, int | None]
"""By id; None: there is no such point."""


class Flushing:
    """A folder of the store, without its server: so that a flush can follow any write."""

    def __init__(self, folder: Path) -> None:
        self.shards = Shards(folder, Telemetry("edgestore"))
        self._points = PointsRpcs(self.shards)
        if not self.shards.has(NAME):
            self.shards.create(NAME, Schema({"v": VectorParams(2, "Dot")}))
            integer = pb.FieldType.FieldTypeInteger
            index = pb.CreateFieldIndexCollection(collection_name=NAME, field_name="ver", field_type=integer)
            self._points.create_field_index(index)

    def stored(self) -> Versions:
        """What there is of `IDS`."""
        request = pb.GetPoints(collection_name=NAME, ids=map(point_id, IDS), with_payload=WITH_ALL)
        found = {one.id: one.payload for one in map(record, self._points.get(request).result)}
        return {id_: int(str(found[id_]["ver"])) if id_ in found else None for id_ in IDS}

    def upsert_newer(self, versions: Versions) -> None:
        """As the adapter does it."""
        older = AnyOf(*(AllOf(HasId([id_]), Between("ver", lt=ver)) for id_, ver in versions.items()))
        points = [
            pb.PointStruct(id=point_id(id_), payload=payload_message({"ver": ver, "text": f"{ver}" * 50}))
            for id_, ver in versions.items()
        ]
        self._points.upsert(
            pb.UpsertPoints(collection_name=NAME, points=points, update_filter=filter_message(older), wait=True)
        )

    def delete(self, versions: Versions) -> None:
        """Those of these that are older than any version."""
        older = pb.PointsSelector(filter=filter_message(AllOf(HasId(list(versions)), Between("ver", lt=1 << 50))))
        self._points.delete(pb.DeletePoints(collection_name=NAME, points=older, wait=True))


def segments(folder: Path) -> set[str]:
    """The engine's, by name."""
    return {path.name for path in (folder / NAME / "shard" / "segments").iterdir()}


def main(folder: Path, seed: int) -> None:
    """Until killed. Tidies, too, as if these few points were many."""
    shard_module.LEAST_POINTS = 20
    chance = random.Random(seed)
    flushing = Flushing(folder)
    found = flushing.stored()
    print(json.dumps(["found", found]), flush=True)
    last = max((ver for ver in found.values() if ver), default=0)
    while True:
        ids = chance.sample(IDS, chance.choice((1, 1, 2, 4)))
        deletes = chance.random() < 0.2
        versions: Versions = {id_: None if deletes else last + place for place, id_ in enumerate(ids, 1)}
        last += len(ids)
        print(json.dumps(["tried", versions]), flush=True)
        (flushing.delete if deletes else flushing.upsert_newer)(versions)
        print(json.dumps(["acknowledged", versions]), flush=True)
        if chance.random() < 0.2:
            before = segments(folder)
            flushing.shards.flush()
            if segments(folder) != before:
                print(json.dumps(["tidied", {}]), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
