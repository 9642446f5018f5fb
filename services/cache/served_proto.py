"""What a response tells of an entry that is served, in words of the wire: written once for one that is served often.

It is the same for everybody who gets the entry, and takes longer to write than all that differs from lookup to lookup.
"""

from __future__ import annotations

from services.cache.entry import Entry
from services.cache.kept import Kept
from services.cache.proto import write_served

KEPT = 1_024
"""Entries."""

MOST_BYTES = 4_096
"""Of one that is kept."""


class RecentlyServed:
    """Writes entries. By id and version: what is said of an entry, or a new answer, makes another version of it."""

    def __init__(self) -> None:
        self._kept: Kept[tuple[str, int], bytes] = Kept(KEPT)

    def write(self, entry: Entry) -> bytes:
        """A LookupResponse with what it tells of the entry, which is `whole`, and nothing else."""
        key = entry.id, entry.ver
        written = self._kept.get(key)
        if written is None:
            written = write_served(entry).SerializeToString()
            if len(written) <= MOST_BYTES:
                self._kept.keep(key, written)
        return written
