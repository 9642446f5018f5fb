"""`antiphon stats`: what the cache holds and what it saved."""

from __future__ import annotations

import json

import click
from rich.console import Console

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.show import Row, as_json, money, table
from antiphon_client.cli.targets import CACHE


def _rows(stats: cache_pb2.GetStatsResponse) -> list[Row]:
    lookups = stats.lookups
    asked = lookups.exact + lookups.semantic + lookups.miss
    hits = lookups.exact + lookups.semantic
    share = f" ({hits / asked:.1%})" if asked else ""
    rows = [
        ("entries", f"{stats.entries_valid:,} valid, {stats.entries_expired:,} expired"),
        ("in memory", f"{stats.bytes / 1e6:,.1f} MB"),
        ("hits", f"{hits:,}{share}: {lookups.exact:,} exact, {lookups.semantic:,} semantic"),
        ("misses", f"{lookups.miss:,}"),
        ("bypassed", f"{lookups.bypass:,}"),
        ("saved", f"{money(stats.cost_saved.nano_usd)}, {stats.usage_saved.output_tokens:,} output tokens"),
        ("evicted", f"{stats.evictions:,}"),
        ("embedder", stats.embedder),
        ("store", "answers" if stats.store_healthy else "does not answer"),
    ]
    if stats.writes_not_stored:
        rows.append(("not stored", f"{stats.writes_not_stored:,} writes while the store was down"))
    rows += [(f"not served: {reason}", f"{count:,}") for reason, count in sorted(stats.vetoes.items())]
    return rows


@click.command()
@click.option("--namespace", default="", help="Only this namespace. Default: all.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def stats(*, namespace: str, as_json_: bool) -> None:
    """Show what the cache holds and what it saved."""

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            response = await client.get_stats(cache_pb2.GetStatsRequest(namespace=namespace))
        if as_json_:
            click.echo(json.dumps(as_json(response)))
            return
        Console().print(table(_rows(response)))

    run(body, CACHE)
