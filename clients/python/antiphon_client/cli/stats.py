"""`antiphon stats`: what the cache holds and what it saved."""

from __future__ import annotations

import json

import click
from rich.console import Console
from rich.table import Table

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli.calls import CACHE_TARGET, run, target
from antiphon_client.cli.show import as_json, money


def _rows(stats: cache_pb2.GetStatsResponse) -> list[tuple[str, str]]:
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
    address = target(CACHE_TARGET)

    async def body() -> None:
        async with AsyncCacheClient(address) as client:
            response = await client.get_stats(cache_pb2.GetStatsRequest(namespace=namespace))
        if as_json_:
            click.echo(json.dumps(as_json(response)))
            return
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(style="dim")
        table.add_column()
        for name, value in _rows(response):
            table.add_row(name, value)
        Console().print(table)

    run(body, address)
