"""`antiphon rollback`: undo what was written into the cache."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime

import click

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.show import as_json
from antiphon_client.cli.targets import CACHE

UNITS = {"s": 1, "min": 60, "h": 3_600, "d": 86_400}
"""Seconds."""

_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d)")

WORDS = {
    cache_pb2.ENTRY_ACTION_DELETE: ("delete", "deleted"),
    cache_pb2.ENTRY_ACTION_QUARANTINE: ("quarantine", "quarantined"),
    cache_pb2.ENTRY_ACTION_RELEASE: ("release", "released"),
}


@click.command()
@click.option("--writer", default="", metavar="KEY", help="What was written for the API key with this id.")
@click.option("--tag", "tags", multiple=True, help="What has this tag; may be repeated.")
@click.option("--source", type=click.Choice(["fill", "put"]), help="What was stored in this way.")
@click.option(
    "--since", default="", metavar="TIME", help="Only what was written since: 90min, 2h, 1d, or a time in ISO 8601."
)
@click.option("--namespace", default="", help="Only in this namespace. Default: `default`.")
@click.option("--all-namespaces", is_flag=True, help="In every namespace.")
@click.option("--quarantine", is_flag=True, help="Keep it, but do not serve it.")
@click.option("--release", is_flag=True, help="Serve again what an operator has quarantined.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def rollback(
    *,
    writer: str,
    tags: tuple[str, ...],
    source: str | None,
    since: str,
    namespace: str,
    all_namespaces: bool,
    quarantine: bool,
    release: bool,
    dry_run: bool,
    as_json_: bool,
) -> None:
    """Delete what was written by one writer, with a tag, or in one way; or keep it from being served.

    `antiphon entries` shows who wrote what. Try it with --dry-run first.
    """
    if bool(writer) + bool(tags) + bool(source) != 1:
        raise click.UsageError("give one of --writer, --tag, --source")
    if quarantine and release:
        raise click.UsageError("give either --quarantine or --release")
    if namespace and all_namespaces:
        raise click.UsageError("give either --namespace or --all-namespaces")
    request = cache_pb2.DeleteRequest(
        namespace=namespace, all_namespaces=all_namespaces, dry_run=dry_run, action=_action(quarantine, release)
    )
    if writer:
        request.writer = writer
    elif source:
        request.source = source
    else:
        request.tags.tags.extend(tags)
    if since:
        request.since.FromMicroseconds(round(moment(since, now=time.time()) * 1e6))

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            response = await client.delete(request)
        if as_json_:
            click.echo(json.dumps(as_json(response)))
            return
        would, did = WORDS[request.action]
        entries = "entry" if response.deleted == 1 else "entries"
        click.echo(f"{f'would {would}' if dry_run else did} {response.deleted:,} {entries}")
        if not response.deleted:
            click.echo(_nothing(request))

    run(body, CACHE, role=OPERATOR)


def _nothing(request: cache_pb2.DeleteRequest) -> str:
    """Say what there is none of, for whoever has mistyped it."""
    match request.WhichOneof("selector"):
        case "writer":
            whose = f"written for the key {request.writer}"
        case "source":
            whose = f"stored by {request.source}"
        case _:
            whose = f"with the tag {' or '.join(request.tags.tags)}"
    where = "any namespace" if request.all_namespaces else f"the namespace {request.namespace or 'default'}"
    state = " that an operator has quarantined" if request.action == cache_pb2.ENTRY_ACTION_RELEASE else ""
    since = " since then" if request.HasField("since") else ""
    return f"  there is no entry in {where} {whose}{since}{state}; `antiphon entries` shows who wrote what"


def moment(said: str, *, now: float) -> float:
    """Read a time: so long ago (`90min`, `2h`, `1d`), or in ISO 8601, in UTC unless it says otherwise. Unix seconds."""
    if age := _AGE.fullmatch(said):
        return now - float(age[1]) * UNITS[age[2]]
    try:
        parsed = datetime.fromisoformat(said)
    except ValueError:
        wanted = "must be 90min, 2h, 1d … or a time such as 2026-01-31T12:00"
        raise click.BadParameter(wanted, param_hint="--since") from None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def _action(quarantine: bool, release: bool) -> cache_pb2.EntryAction.ValueType:
    if quarantine:
        return cache_pb2.ENTRY_ACTION_QUARANTINE
    return cache_pb2.ENTRY_ACTION_RELEASE if release else cache_pb2.ENTRY_ACTION_DELETE
