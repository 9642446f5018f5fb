"""`antiphon cache export`: all entries, or some, into a file."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import BinaryIO

import click

from antiphon.cache.v1 import transfer_pb2
from antiphon_client.cli import exits, progress
from antiphon_client.cli.cache.files import STDIO, whole
from antiphon_client.cli.calls import OPERATOR, complain, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.show import as_json
from antiphon_client.cli.targets import CACHE
from antiphon_client.errors import InternalError


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--namespace", "namespaces", multiple=True, help="Only this namespace; may be repeated. Default: all.")
@click.option("--tag", "tags", multiple=True, help="Only entries with this tag, or one of these; may be repeated.")
@click.option(
    "--vectors", is_flag=True, help="With embeddings, so that a cache with the same embedder needs no new ones."
)
@click.option("--timeout", type=FiniteRange(0, min_open=True), default=3_600.0, show_default=True, help="Seconds.")
def export(file: str, *, namespaces: tuple[str, ...], tags: tuple[str, ...], vectors: bool, timeout: float) -> None:
    """Write what the cache holds into FILE, one JSON object a line; `-` is stdout.

    `antiphon cache import` takes it in any cache. FILE has questions and answers in plain text: keep it as you keep
    those. It is replaced when everything has arrived, and else stays as it was.
    """
    request = transfer_pb2.ExportRequest(namespaces=namespaces, tags=tags, vectors=vectors)

    async def body(connection: Connection) -> None:
        with whole(file) as out:
            end = await _written(connection, request, out, timeout=timeout)
        entries = "entry" if end.entries == 1 else "entries"
        click.echo(f"exported {end.entries:,} {entries}", err=file == STDIO)
        if end.not_portable:
            left = "are left out: an earlier version stored them, and they cannot move"
            click.echo(f"  {end.not_portable:,} {left}", err=True)

    try:
        run(body, CACHE, role=OPERATOR)
    except OSError as error:
        complain(f"FILE cannot be written: {error.strerror}")
        sys.exit(exits.CANNOT_WRITE)


async def _written(
    connection: Connection, request: transfer_pb2.ExportRequest, out: BinaryIO, *, timeout: float
) -> transfer_pb2.ExportEnd:
    """Write all parts. Raises InternalError for an export without an end."""
    written = most = 0
    async with connection.cache() as client:
        with progress.shown("export", 1.0, bar=progress.bar_wanted()) as update:
            async with aclosing(client.export(request, timeout=timeout)) as parts:
                async for part in parts:
                    if part.HasField("entries"):
                        written += len(part.entries.entries)
                        out.writelines(_line(as_json(entry)) for entry in part.entries.entries)
                        update(min(written / most, 1.0) if most else 0.0, f"{written:,} entries")
                        continue
                    most = most or part.header.most_entries
                    out.write(_line(as_json(part)))
                    if part.HasField("end"):
                        return part.end
    raise InternalError("the export ended without its end: it is not complete")


def _line(found: dict[str, object]) -> bytes:
    return json.dumps(found, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
