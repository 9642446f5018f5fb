"""Between `antiphon.cache.v1.Delete` and plain values.

Every `read_*` raises `InvalidRequest` naming the field that is wrong.
"""

from __future__ import annotations

import re

from antiphon.cache.v1 import cache_pb2 as pb
from services.cache.entry import MICROSECONDS, Source
from services.cache.proto import read_namespace, read_tags
from services.cache.values import Action, ByIds, BySource, BySourceVersion, ByTags, ByWriter, Chosen, Selector
from services.llm.fields import invalid, missing
from services.llm.reading import read_timestamp

MAX_IDS = 1_000

_KEY_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}")

_ACTIONS = {
    pb.ENTRY_ACTION_UNSPECIFIED: Action.DELETE,
    pb.ENTRY_ACTION_DELETE: Action.DELETE,
    pb.ENTRY_ACTION_QUARANTINE: Action.QUARANTINE,
    pb.ENTRY_ACTION_RELEASE: Action.RELEASE,
}


def read_chosen(request: pb.DeleteRequest) -> Chosen:
    """Which entries a request means."""
    if request.all_namespaces and request.namespace:
        raise invalid("namespace", "must be empty with all_namespaces")
    return Chosen(
        selector=_selector(request),
        namespace=None if request.all_namespaces else read_namespace(request.namespace),
        since_us=round(read_timestamp(request.since, "since") * MICROSECONDS),
    )


def read_action(request: pb.DeleteRequest) -> Action:
    """What becomes of them."""
    return _ACTIONS[request.action]


def _selector(request: pb.DeleteRequest) -> Selector:
    match request.WhichOneof("selector"):
        case "entry_ids":
            ids = request.entry_ids.ids
            if not 1 <= len(ids) <= MAX_IDS:
                raise invalid("entry_ids.ids", f"1 to {MAX_IDS}")
            return ByIds(tuple(ids))
        case "tags":
            if not request.tags.tags:
                raise missing("tags.tags", "at least one is required")
            return ByTags(frozenset(read_tags(request.tags.tags, "tags.tags")))
        case "source":
            if request.source not in set(Source):
                raise invalid("source", "must be one of fill, put")
            return BySource(request.source)
        case "writer":
            if not _KEY_ID.fullmatch(request.writer):
                raise invalid("writer", "must be the id of an API key: 1 to 64 of A-Z a-z 0-9 . _ : -")
            return ByWriter(request.writer)
        case "source_version":
            if not request.source_version.name:
                raise missing("source_version.name", "is required")
            return BySourceVersion(request.source_version.name, request.source_version.version)
        case _:
            raise missing("selector", "one of entry_ids, tags, source, writer, source_version is required")
