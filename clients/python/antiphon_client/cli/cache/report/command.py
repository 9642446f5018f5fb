"""`antiphon cache report`."""

from __future__ import annotations

import sys
import time

import click

from antiphon.cache.v1 import cache_pb2
from antiphon.llm.v1 import llm_pb2
from antiphon_client.cache import AsyncCacheClient
from antiphon_client.cli import exits
from antiphon_client.cli.cache.files import STDIO, whole
from antiphon_client.cli.cache.report.page import Facts, page
from antiphon_client.cli.calls import OPERATOR, complain, run
from antiphon_client.cli.connect import Connection
from antiphon_client.cli.targets import CACHE

PROBE = "What is the boiling point of water at sea level?"
"""A question that may be answered by similarity: what its cosine has to reach is what everybody's has to reach."""


@click.command()
@click.argument("file", metavar="OUT.html", type=click.Path(dir_okay=False, allow_dash=True))
@click.option("--namespace", default="", help="Only this namespace. Default: all.")
@click.option("--top", type=click.IntRange(0, 128), default=20, show_default=True, help="Questions to list.")
def report(file: str, *, namespace: str, top: int) -> None:
    """Write one HTML file about what the cache did: hits over time, likeness, vetoes, savings, top questions.

    It loads nothing from elsewhere. It has questions in plain text: keep it as you keep those. `-` is stdout. Counts
    are of your tenant on one server, since its start; those by hour are of all namespaces.
    """

    async def body(connection: Connection) -> None:
        async with connection.cache() as client:
            facts = await _facts(client, connection.address, namespace, top)
        with whole(file) as out:
            out.write(page(facts).encode())

    try:
        run(body, CACHE, role=OPERATOR)
    except OSError as error:
        complain(f"OUT.html cannot be written: {error.strerror}")
        sys.exit(exits.CANNOT_WRITE)
    click.echo(f"wrote {file}", err=file == STDIO)


async def _facts(client: AsyncCacheClient, address: str, namespace: str, top: int) -> Facts:
    message = llm_pb2.Message(role=llm_pb2.ROLE_USER, parts=[llm_pb2.ContentPart(text=PROBE)])
    probe = cache_pb2.ExplainRequest(query=cache_pb2.Query(namespace=namespace, messages=[message]), limit=1)
    explained = await client.explain(probe)
    served: list[cache_pb2.Entry] = []
    if top:
        wanted = cache_pb2.ListEntriesRequest(namespace=namespace, most_served=True, page_size=top)
        served = list((await client.list_entries(wanted)).entries)
    return Facts(
        namespace=namespace,
        address=address,
        at=time.time(),
        stats=await client.get_stats(cache_pb2.GetStatsRequest(namespace=namespace)),
        thresholds=(("threshold", explained.threshold),) if explained.HasField("threshold") else (),
        served=served,
    )
