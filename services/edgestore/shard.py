"""One collection: an engine shard and what the engine does not remember about it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from qdrant_edge import (
    Distance,
    EdgeConfig,
    EdgeOptimizersConfig,
    EdgeShard,
    EdgeVectorParams,
    UpdateOperation,
)

FLUSH_AFTER_WRITES = 1_000
"""Updates after which a shard is flushed at once: bounds the log's replay and what a loss of power may cost."""

GONE_SHARE = 0.5
"""Of a segment's points that were deleted, above which `tidy` writes anew those that are left: the disk holds up to
twice what is needed, and more of a collection that is too large to be tidied while it serves."""

LEAST_POINTS = 1_000
"""In a segment, deleted ones included, before that is worth while: some megabytes."""

_NEVER_KB = 1 << 40
"""From this size on the engine would build a graph; nobody asks a store for what is near."""

_DISTANCES = {
    "Cosine": Distance.Cosine,
    "Dot": Distance.Dot,
    "Euclid": Distance.Euclid,
    "Manhattan": Distance.Manhattan,
}


@dataclass(frozen=True, slots=True)
class VectorParams:
    """A named vector: its size, and the distance by the name that both the API and the engine use."""

    size: int
    distance: str


@dataclass(frozen=True, slots=True)
class Schema:
    """The named vectors of a collection."""

    vectors: Mapping[str, VectorParams]

    def encode(self) -> bytes:
        """As the file beside the shard."""
        vectors = {name: asdict(params) for name, params in self.vectors.items()}
        return json.dumps({"schema": 1, "vectors": vectors}, indent=1).encode()

    @staticmethod
    def decode(content: bytes) -> Schema:
        """Inverse of `encode`; raises ValueError or KeyError for anything else."""
        document = json.loads(content)
        if document["schema"] != 1:
            raise ValueError("unknown schema of a collection file")
        return Schema({name: VectorParams(**params) for name, params in document["vectors"].items()})


class Shard:
    """An open collection.

    The engine is called on the event loop's own thread: it holds the GIL in every call (measured: no other Python
    thread runs during a scroll or a count), so a thread of its own would free nothing and cost a switch per call.
    """

    def __init__(self, edge: EdgeShard, schema: Schema) -> None:
        self.edge = edge
        self.schema = schema
        self._unflushed = 0
        self._untidy = True

    @staticmethod
    def create(folder: Path, schema: Schema) -> None:
        """Make the files of an empty shard in `folder`, flushed and closed."""
        folder.mkdir()
        edge = EdgeShard.create(str(folder), _config(schema, wal_enabled=True))
        edge.flush()
        edge.close()

    @staticmethod
    def load(folder: Path, schema: Schema) -> Shard:
        """Open the shard in `folder`, replaying its log; raises whatever the engine raises."""
        return Shard(EdgeShard.load(str(folder), _config(schema)), schema)

    def update(self, operation: UpdateOperation) -> None:
        """Log and apply; on return the operation survives SIGKILL."""
        # Counted first: the engine has logged an operation that it then fails to apply.
        self._unflushed += 1
        self.edge.update(operation)
        self._untidy = True
        if self._unflushed >= FLUSH_AFTER_WRITES:
            self.flush()

    def flush(self) -> None:
        """Write to disk what was changed since the last time; nothing to do costs nothing."""
        if self._unflushed:
            self.edge.flush()
            self._unflushed = 0

    def tidy(self, most: int | None = None) -> bool:
        """Give back what deleted points take, where they are many; whether that was so.

        Not where more than `most` are left: nothing else is served meanwhile, some 25 µs for each. It takes as much
        room on disk as they do.
        """
        if not self._untidy or (most is not None and self.edge.info().points_count > most):
            return False
        self._untidy = False  # what fails is tried again after the next change
        if not self.edge.optimize():
            return False
        self.edge.flush()
        return True

    def close(self) -> None:
        """Flush and let go of the files."""
        try:
            self.flush()
        finally:
            self.edge.close()


def _config(schema: Schema, *, wal_enabled: bool | None = None) -> EdgeConfig:
    """Of the engine; None: as the shard was made."""
    return EdgeConfig(
        vectors={
            name: EdgeVectorParams(params.size, _DISTANCES[params.distance]) for name, params in schema.vectors.items()
        },
        optimizers=EdgeOptimizersConfig(
            deleted_threshold=GONE_SHARE,
            vacuum_min_vector_number=LEAST_POINTS,
            default_segment_number=1,
            indexing_threshold=_NEVER_KB,
        ),
        wal_enabled=wal_enabled,
    )
