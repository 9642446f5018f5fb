"""`antiphon stats`."""

from __future__ import annotations

import json
import sys

import click

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.finite import FiniteRange
from antiphon_client.cli.show import as_json, console
from antiphon_client.cli.stats.view import view
from antiphon_client.cli.stats.watch import live_wanted, watch_lines, watch_live
from antiphon_client.cli.targets import CACHE

DEFAULT_INTERVAL = 2.0


@click.command()
@click.option("--namespace", default="", help="Only this namespace. Default: all.")
@click.option("--watch", is_flag=True, help="Read again and again, until Ctrl-C; that ends it with exit code 0.")
@click.option(
    "--interval",
    type=FiniteRange(0.1, 3_600),
    default=DEFAULT_INTERVAL,
    show_default=True,
    help="Seconds between two readings of --watch.",
)
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object; with --watch, one per reading.")
def stats(*, namespace: str, watch: bool, interval: float, as_json_: bool) -> None:
    """Show what the cache holds, what it saved, and how alike and how fast its answers were.

    Counts are of the caller's tenant, since the server's start. Hits are shown as a share of hits and misses. --watch
    adds how fast they grew since the last reading, goes on when the service is restarted, and prints plain lines where
    stdout is no terminal.
    """

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            if watch and live_wanted() and not as_json_:
                await watch_live(client, namespace, interval=interval)
            elif watch:
                await watch_lines(client, namespace, interval=interval, objects=as_json_)
            else:
                response = await client.get_stats(cache_pb2.GetStatsRequest(namespace=namespace))
                if as_json_:
                    click.echo(json.dumps(as_json(response)))
                else:
                    out = console()
                    out.print(view(response, width=out.width))

    try:
        run(body, CACHE)
    except KeyboardInterrupt:
        if not watch:
            raise
        sys.exit(0)
