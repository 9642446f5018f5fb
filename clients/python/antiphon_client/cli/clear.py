"""`antiphon clear`: make every entry of a namespace invisible."""

from __future__ import annotations

import json

import click

from antiphon.cache.v1 import cache_pb2
from antiphon_client.cli.calls import OPERATOR, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.show import as_json
from antiphon_client.cli.targets import CACHE


@click.command()
@click.option("--namespace", default="", help="The namespace. Default: `default`.")
@click.option("--dry-run", is_flag=True, help="Only count.")
@click.option("--json", "as_json_", is_flag=True, help="Print one JSON object.")
def clear(*, namespace: str, dry_run: bool, as_json_: bool) -> None:
    """Make every entry of a namespace invisible, now and after a restart."""

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            response = await client.clear(cache_pb2.ClearRequest(namespace=namespace, dry_run=dry_run))
        if as_json_:
            click.echo(json.dumps(as_json(response)))
        else:
            entries = "entry" if response.cleared == 1 else "entries"
            done = "would clear" if dry_run else "cleared"
            click.echo(f"{done} {response.cleared:,} {entries} of {namespace or 'default'}")

    run(body, CACHE, role=OPERATOR)
