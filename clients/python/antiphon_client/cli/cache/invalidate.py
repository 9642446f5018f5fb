"""`antiphon cache invalidate`: make entries invisible that are not right any more."""

from __future__ import annotations

import json

import click

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.targets import CACHE

WRITTEN = ("fill", "put")
"""Every entry was written in one of these ways."""


@click.command()
@click.option("--entry", "entries", multiple=True, metavar="ID", help="The entry with this id; may be repeated.")
@click.option("--tag", "tags", multiple=True, help="What has this tag; may be repeated.")
@click.option("--namespace", default="", help="Everything in this namespace, or what else is named only there.")
@click.option(
    "--source-version",
    "source",
    default="",
    metavar="NAME[=VERSION]",
    help="What was made from this version of a source, or from any of it.",
)
@click.option("--all", "all_", is_flag=True, help="Everything, in every namespace.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def invalidate(
    *,
    entries: tuple[str, ...],
    tags: tuple[str, ...],
    namespace: str,
    source: str,
    all_: bool,
    dry_run: bool,
    as_json_: bool,
) -> None:
    """Delete entries by id, what has a tag, was made from a version of a source, or is in a namespace; or everything.

    Ids (`antiphon entries` shows them), tags and source versions are looked for in every namespace, unless one is
    named. A namespace as a whole is cleared, which also keeps answers away that are being made now. Try it with
    --dry-run first.
    """
    named = bool(entries) + bool(tags) + bool(source) + all_
    if named > 1 or not (named or namespace):
        raise click.UsageError("give one of --entry, --tag, --source-version, --namespace, --all")
    if all_ and namespace:
        raise click.UsageError("give either --namespace or --all")

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            if all_:
                each = [cache_pb2.DeleteRequest(source=way, all_namespaces=True, dry_run=dry_run) for way in WRITTEN]
                count = sum([(await client.delete(request)).deleted for request in each])
            elif named:
                count = await _deleted(client, entries, tags, source, namespace, dry_run=dry_run)
            else:
                request = cache_pb2.ClearRequest(namespace=namespace, dry_run=dry_run)
                count = (await client.clear(request)).cleared
        if as_json_:
            click.echo(json.dumps({"invalidated": count, "dry_run": dry_run}))
        else:
            what = "entry" if count == 1 else "entries"
            click.echo(f"{'would invalidate' if dry_run else 'invalidated'} {count:,} {what}")

    run(body, CACHE, role=OPERATOR)


async def _deleted(
    client: AsyncCacheClient,
    entries: tuple[str, ...],
    tags: tuple[str, ...],
    source: str,
    namespace: str,
    *,
    dry_run: bool,
) -> int:
    request = cache_pb2.DeleteRequest(namespace=namespace, all_namespaces=not namespace, dry_run=dry_run)
    if entries:
        request.entry_ids.ids.extend(entries)
    elif tags:
        request.tags.tags.extend(tags)
    else:
        request.source_version.name, _, request.source_version.version = source.partition("=")
    return (await client.delete(request)).deleted
