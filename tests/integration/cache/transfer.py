"""Exports and imports of the tests: a whole export in memory, and the lines of an import."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from antiphon.cache.v1 import cache_pb2
from antiphon.cache.v1 import transfer_pb2 as pb
from antiphon_client import AsyncCacheClient
from services.cache.exporting import Exported
from services.cache.exporting_proto import write_portable
from services.cache.importing import Taken, Terms
from services.cache.importing_proto import read_lines
from tests.integration.cache.stored_cache import StoredCache
from tests.unit.cache.cache_parts import TENANT

WHOLE = pb.ExportRequest()


async def exported(client: AsyncCacheClient, request: pb.ExportRequest = WHOLE) -> list[pb.PortableEntry]:
    """All entries, after checking that the export is complete and says so."""
    parts = [part async for part in client.export(request)]
    entries = [entry for part in parts for entry in part.entries.entries]
    assert parts[0].HasField("header")
    assert [part.HasField("end") for part in parts] == [False] * (len(parts) - 1) + [True]
    assert (parts[-1].end.entries, parts[-1].end.not_portable) == (len(entries), 0)
    return entries


def requests(entries: Sequence[pb.PortableEntry], *, size: int = 100, **options: object) -> Iterator[pb.ImportRequest]:
    """The stream of an import; a line's number is its place, from 1."""
    yield pb.ImportRequest(options=pb.ImportOptions(**options))  # type: ignore[arg-type]
    for start in range(0, len(entries), size):
        lines = [pb.ImportLine(entry=entry) for entry in entries[start : start + size]]
        yield pb.ImportRequest(lines=lines)


async def entries_of(cache: StoredCache, wanted: Exported | None = None) -> list[pb.PortableEntry]:
    """What a cache in the test's own loop exports."""
    pages = cache.cache.transfers.exporting.pages(TENANT, wanted or Exported())
    return [write_portable(entry) async for page in pages for entry in page.entries]


async def taken_by(cache: StoredCache, entries: Sequence[pb.PortableEntry], terms: Terms | None = None) -> Taken:
    """What a cache in the test's own loop makes of an import."""
    taken = Taken()
    lines = await read_lines([pb.ImportLine(entry=entry) for entry in entries], 0)
    await cache.cache.transfers.importing.take(TENANT, lines, terms or Terms(), taken)
    return taken


def by_question(entries: Sequence[pb.PortableEntry]) -> dict[tuple[str, str, str, bytes], pb.PortableEntry]:
    """Entries by what they answer; fails if one is there twice."""
    found = {
        (entry.namespace, entry.model, "\n".join(entry.question), entry.context_digest): entry for entry in entries
    }
    assert len(found) == len(entries)
    return found


async def sizes(client: AsyncCacheClient) -> tuple[int, ...]:
    """What the statistics tell of all that is stored; the last is what waits for its embedding."""
    stats = await client.get_stats(cache_pb2.GetStatsRequest())
    return stats.entries_total, stats.entries_valid, stats.entries_quarantined, stats.bytes, stats.embeddings_waiting
