"""All collections of a store folder, and their folders.

    <store>/.lock           held while a process has the store open
    <store>/.aliases.json   aliases
    <store>/<name>/         a collection: collection.json (its schema) and shard/ (the engine's files)
    <store>/.new-<name>     being created    \\ named so until, or once, it does not count;
    <store>/.dropped-<name> being deleted    / left over by a kill, removed at the next start

A collection exists exactly when its folder has its own name: creation and deletion are one rename each. No folder that
has its own name is ever removed but by a Delete.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import grpc
from prometheus_client import Counter, Gauge

from services.chassis.telemetry import Telemetry
from services.edgestore.aliases import Aliases
from services.edgestore.files import replace_file, sync_folder
from services.edgestore.refused import RefusedError, invalid, not_found
from services.edgestore.shard import Schema, Shard

TIDIED_WHILE_SERVING = 10_000
"""Points that may be left in a collection that is tidied beside calls. They wait meanwhile: for so many a quarter of a
second of CPU, and 1.1 to 1.7 s where six times as much wanted to run as there were cores; the cache gives up after
five. A larger one is tidied when the store starts."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
"""Names that are also safe names of folders, and never the hidden ones above."""

_SCHEMA_FILE = "collection.json"
_SHARD_FOLDER = "shard"
_NEW = ".new-"
_DROPPED = ".dropped-"


class Shards:
    """The open collections by name. The caller holds the folder's lock."""

    def __init__(self, folder: Path, telemetry: Telemetry) -> None:
        """Remove leftovers and open every collection.

        One that cannot be opened is logged and refused by name; it does not keep the others from being served, and its
        files stay as they are.
        """
        self._folder = folder
        self._log = log = telemetry.log
        self._flush_failures = Counter(
            "antiphon_edgestore_flush_failures",
            "Flushes that failed; what they held stays in the log and is tried again.",
            registry=telemetry.registry,
        )
        Gauge(
            "antiphon_edgestore_broken_collections",
            "Collections that could not be opened at the start.",
            registry=telemetry.registry,
        ).set_function(lambda: len(self._broken))
        self._open: dict[str, Shard] = {}
        self._broken: set[str] = set()
        self.aliases = Aliases(folder / ".aliases.json")
        for entry in sorted(folder.iterdir()):
            if entry.name.startswith((_NEW, _DROPPED)):
                shutil.rmtree(entry)
                log.info("leftover removed", folder=entry.name)
            elif entry.is_dir() and _NAME.fullmatch(entry.name):
                self._load(entry)

    def names(self) -> list[str]:
        """All collections, also those that cannot be opened."""
        return sorted({*self._open, *self._broken})

    def has(self, name: str) -> bool:
        """Whether a collection or an alias has this name."""
        target = self.aliases.current().get(name, name)
        return target in self._open or target in self._broken

    def get(self, name: str) -> Shard:
        """The collection with this name or alias; raises RefusedError."""
        target = self.aliases.current().get(name, name)
        shard = self._open.get(target)
        if shard is None:
            if target in self._broken:
                raise RefusedError(
                    grpc.StatusCode.INTERNAL, f"collection `{target}` cannot be opened; see the store's log"
                )
            raise not_found(f"Collection `{name}` doesn't exist!")
        return shard

    def create(self, name: str, schema: Schema) -> None:
        """A new, empty collection, durably; raises RefusedError when the name is taken or no name."""
        if not _NAME.fullmatch(name):
            raise invalid("a collection name is 1 to 200 letters, digits, `.`, `_`, `-`, and does not begin with a dot")
        if self.has(name):
            raise RefusedError(grpc.StatusCode.ALREADY_EXISTS, f"Wrong input: Collection `{name}` already exists!")
        new, final = self._folder / f"{_NEW}{name}", self._folder / name
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o700)
        Shard.create(new / _SHARD_FOLDER, schema)
        replace_file(new / _SCHEMA_FILE, schema.encode())
        new.rename(final)
        sync_folder(self._folder)
        self._open[name] = Shard.load(final / _SHARD_FOLDER, schema)

    def delete(self, name: str) -> bool:
        """Remove the collection and its aliases, durably; False when there is none (an alias is none)."""
        if name not in self._open and name not in self._broken:
            return False
        if (shard := self._open.pop(name, None)) is not None:
            shard.edge.close()
        self._broken.discard(name)
        dropped = self._folder / f"{_DROPPED}{name}"
        shutil.rmtree(dropped, ignore_errors=True)
        (self._folder / name).rename(dropped)
        sync_folder(self._folder)
        current = self.aliases.current()
        self.aliases.replace({alias: target for alias, target in current.items() if target != name})
        shutil.rmtree(dropped)
        return True

    def flush(self) -> None:
        """Flush and tidy every collection that changed; a failure is logged, a flush tried again with the next one."""
        for name, shard in self._open.items():
            try:
                shard.flush()
            except Exception as error:  # noqa: BLE001 the engine raises bare Exceptions
                self._flush_failures.inc()
                self._log.error("flush failed", collection=name, exc_info=error)
                continue
            self._tidy(name, shard, TIDIED_WHILE_SERVING)

    def close(self) -> bool:
        """Flush and close everything; False when that failed for any, which is logged."""
        clean = True
        for name, shard in self._drain():
            try:
                shard.close()
            except Exception as error:  # noqa: BLE001 as above; the others must still be closed
                clean = False
                self._log.error("close failed", collection=name, exc_info=error)
        return clean

    def _tidy(self, name: str, shard: Shard, most: int | None = None) -> None:
        try:
            if shard.tidy(most):
                self._log.info("collection tidied", collection=name)
        except Exception as error:  # noqa: BLE001 as above; all that is stored is where it was
            self._log.error("tidying failed", collection=name, exc_info=error)

    def _drain(self) -> Iterator[tuple[str, Shard]]:
        while self._open:
            yield self._open.popitem()

    def _load(self, folder: Path) -> None:
        try:
            schema = Schema.decode((folder / _SCHEMA_FILE).read_bytes())
            shard = self._open[folder.name] = Shard.load(folder / _SHARD_FOLDER, schema)
        except Exception as error:  # noqa: BLE001 the engine raises bare Exceptions; one collection must not stop all
            self._broken.add(folder.name)
            self._log.error("collection cannot be opened", collection=folder.name, exc_info=error)
        else:
            self._tidy(folder.name, shard)
