"""What moves entries between caches: export, import, and embedding what came without an embedding."""

from __future__ import annotations

from services.cache.bodies import Bodies
from services.cache.embeddings import Embeddings
from services.cache.entries import Entries
from services.cache.exporting import Exporting
from services.cache.importing import Importing
from services.cache.late_embedding import LateEmbedding
from services.cache.outside import Limits, Outside
from services.cache.recovery import Recovery
from services.cache.scope import Addresses
from services.cache.storing import Storing
from services.cache.writer import Writer


class Transfers:
    """Puts them together."""

    def __init__(
        self,
        *,
        addresses: Addresses,
        entries: Entries,
        bodies: Bodies,
        embeddings: Embeddings,
        storing: Storing,
        writer: Writer,
        recovery: Recovery,
        limits: Limits,
        outside: Outside,
    ) -> None:
        self.late = LateEmbedding(
            addresses=addresses,
            entries=entries,
            embeddings=embeddings,
            storing=storing,
            recovery=recovery,
            now=outside.clock.now,
            monotonic=outside.clock.monotonic,
        )
        self.exporting = Exporting(
            addresses=addresses,
            entries=entries,
            bodies=bodies,
            store=outside.store,
            writer=writer,
            recovery=recovery,
            embedder=outside.embedder_slug,
            now=outside.clock.now,
        )
        self.importing = Importing(
            addresses=addresses,
            entries=entries,
            storing=storing,
            writer=writer,
            recovery=recovery,
            late=self.late,
            embedder=outside.embedder_slug,
            dim=outside.embedder_dim,
            ttl=limits.ttl,
            max_entry_bytes=limits.max_entry_bytes,
            now=outside.clock.now,
        )
